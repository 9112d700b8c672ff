// SPDX-License-Identifier: MIT
// The page's one script: the sliders, the tooltips of charts for pointer and keyboard, and the switch between light and
// dark. Without it the page shows all that they would. The page's policy lets this text run and nothing else: neither a
// script that a record smuggled in, nor anything from a network.
#pragma once

#include <string>
#include <string_view>

#include "pavise/core/error.hpp"
#include "pavise/core/sha256.hpp"
#include "pavise/report/png.hpp"

namespace pavise::report::detail {

inline constexpr std::string_view kScript = R"js(
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // Light and dark: as the reader's system has it, until the button is pressed.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const name = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();

  // A slider shows the frames of one radius.
  for (const sweep of document.querySelectorAll(".sweep")) {
    const slider = sweep.querySelector("input");
    const output = sweep.querySelector("output");
    const show = () => {
      for (const frame of sweep.querySelectorAll(".frame")) {
        frame.classList.toggle("now", frame.dataset.step === slider.value);
      }
      output.value = sweep.querySelector(".frame.now .radius").textContent;
      slider.setAttribute("aria-valuetext", output.value);
    };
    slider.addEventListener("input", show);
    show();
  }

  // Points of charts: under the pointer, or by Tab to a chart and the arrow keys within it.
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;
  let current = null;
  const point = (mark) => {
    if (current) { current.classList.remove("pv-on"); }
    current = mark;
    tip.hidden = !mark;
    if (!mark) { return; }
    mark.classList.add("pv-on");
    tip.textContent = mark.getAttribute("aria-label");
    const at = mark.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(at.left + at.width / 2 - size.width / 2, 4), root.clientWidth - size.width - 4);
    tip.style.left = left + "px";
    tip.style.top = (at.top - size.height - 8 >= 0 ? at.top - size.height - 8 : at.bottom + 8) + "px";
  };
  for (const chart of document.querySelectorAll(".pv-chart")) {
    const marks = [];
    for (const title of chart.querySelectorAll("title")) {
      const mark = title.parentNode;
      mark.setAttribute("aria-label", title.textContent);
      mark.setAttribute("role", "img");
      mark.setAttribute("tabindex", marks.length ? "-1" : "0");
      title.remove();
      marks.push(mark);
    }
    if (!marks.length) { continue; }
    chart.setAttribute("role", "group");
    chart.addEventListener("focusin", (event) => point(event.target));
    chart.addEventListener("focusout", () => point(null));
    chart.addEventListener("pointerleave", () => point(null));
    chart.addEventListener("pointermove", (event) => {
      let nearest = null;
      let least = 30;
      for (const mark of marks) {
        const r = mark.getBoundingClientRect();
        const dx = Math.max(r.left - event.clientX, event.clientX - r.right, 0);
        const dy = Math.max(r.top - event.clientY, event.clientY - r.bottom, 0);
        const distance = Math.hypot(dx, dy);
        if (distance < least) { least = distance; nearest = mark; }
      }
      point(nearest);
    });
    chart.addEventListener("keydown", (event) => {
      const at = marks.indexOf(document.activeElement);
      const next = {ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0,
                    End: marks.length - 1}[event.key];
      if (event.key === "Escape") { point(null); }
      if (next === undefined || !marks[next]) { return; }
      event.preventDefault();
      marks[at].setAttribute("tabindex", "-1");
      marks[next].setAttribute("tabindex", "0");
      marks[next].focus();
    });
  }
})();
)js";

/// The page's content security policy: pictures that it carries itself, its own style and this script.
inline std::string script_policy() {
  const auto digest = Sha256().add(kScript.data(), kScript.size()).digest();
  const std::string_view bytes(reinterpret_cast<const char*>(digest.data()), digest.size());
  return concat("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-", base64(bytes),
                "'; base-uri 'none'; form-action 'none'");
}

}  // namespace pavise::report::detail
