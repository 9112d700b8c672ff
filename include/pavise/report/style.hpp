// SPDX-License-Identifier: MIT
// The page's style sheet: light and dark, wide and narrow, screen and paper.
#pragma once

#include <string>

#include "pavise/core/error.hpp"

namespace pavise::report::detail {

inline std::string page_style() {
  constexpr const char* kDark =
      "--ink:#e6e8eb;--soft:#9ba4ae;--line:#343b43;--paper:#16191d;--card:#1e2329;--link:#6cb2f5;--note:#3a2f10;"
      "--edge:#d9a400;--good:#58c98b;--bad:#ff7a5c";
  return concat(
      R"(:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--line:#d8dde3;--paper:#fff;--card:#f6f8fa;--link:#0b5cad;--note:#fff4d6;--edge:#d9a400;--good:#1f7a4a;--bad:#b83a1f}
@media (prefers-color-scheme:dark){@media screen{:root:not([data-theme=light]){)",
      kDark, R"(}}}
@media screen{:root[data-theme=dark]{color-scheme:dark;)",
      kDark, R"(}:root[data-theme=light]{color-scheme:light}}
*{box-sizing:border-box}
body{margin:0 auto;padding:20px clamp(12px,3vw,32px) 40px;max-width:1180px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.4em 0 .1em}h2{font-size:1.2rem;margin:2em 0 .5em;padding-bottom:.25em;border-bottom:1px solid var(--line)}h3{font-size:1rem;margin:1.2em 0 .4em}
p{margin:.5em 0;max-width:80ch}a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}small,.soft{color:var(--soft);font-size:.85rem}
.note{background:var(--note);border-left:4px solid var(--edge);padding:.6em .9em;margin:0 0 1em;border-radius:4px;font-weight:600;max-width:none}
.lead{font-size:1.05rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:1em 0}
.tile{background:var(--card);border-radius:8px;border-top:4px solid;padding:.7em .9em}.tile b{display:block}.tile .big{display:block;font-size:1.75rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}.tile span,.tile small{display:block}.tile span small{display:inline}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:.45em .8em .45em 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600;font-size:.9rem}th small{font-weight:400;display:block}td.num,th.num{text-align:right;white-space:nowrap;padding-right:1.2em}th.num{white-space:normal}td:first-child{min-width:8.5em}td.num b{font-size:1.05rem}td.num small{display:block}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.45em}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:18px}
.charts.three{grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}figure{margin:0;min-width:0}figure.chart{overflow-x:auto}figure.chart svg{display:block;width:100%;min-width:400px;max-width:600px}.charts.three figure.chart svg{min-width:300px;max-width:480px}figcaption{color:var(--soft);font-size:.85rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:14px}
.shot{background:var(--card);border-radius:8px;padding:10px;break-inside:avoid}.shot .three{display:grid;grid-template-columns:repeat(3,1fr);gap:6px}.shot img{display:block;width:100%;max-width:112px;aspect-ratio:auto;image-rendering:pixelated;border-radius:3px}
.shot .three span{font-size:.75rem;color:var(--soft);line-height:1.3;overflow-wrap:anywhere}.shot .three b{display:block;color:var(--ink);font-weight:600}.shot figcaption{margin-bottom:5px}
code{font:.82rem/1.45 ui-monospace,"SF Mono",Consolas,"DejaVu Sans Mono",monospace}
.command{display:block;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.5em .7em;white-space:pre-wrap;overflow-wrap:anywhere;user-select:all;-webkit-user-select:all}
.origin{margin:0 0 14px;padding:0 0 2px;break-inside:avoid}.origin p{margin:.1em 0 .3em;max-width:none}.origin:target .command{border-color:var(--link);box-shadow:0 0 0 1px var(--link)}
.facts{color:var(--soft);font-size:.85rem}footer{margin-top:3em;color:var(--soft);font-size:.85rem}
@media (max-width:560px){body{font-size:14px}h1{font-size:1.4rem}.tiles{grid-template-columns:1fr 1fr}}
@media print{:root{color-scheme:light;font-size:12px}.slider,.theme,nav,#tip{display:none!important}body{max-width:none;padding:0;font-size:9.5pt}.charts{grid-template-columns:1fr 1fr}figure.chart svg{min-width:0}h2{break-after:avoid}figure,tr{break-inside:avoid}.tile,.shot,.command{border:1px solid var(--line)}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}.pv-chart [tabindex]:focus{outline:none}
nav{display:flex;flex-wrap:wrap;gap:.2em 1.1em;align-items:center;margin:.6em 0 1em;font-size:.92rem}.theme{display:none;font:inherit;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.15em .7em;cursor:pointer}.js .theme{display:inline-block;margin-left:auto}
#tip{position:fixed;z-index:2;max-width:min(340px,90vw);padding:.35em .6em;border-radius:6px;background:var(--ink);color:var(--paper);font-size:.85rem;line-height:1.35;pointer-events:none}
.numbers{font-size:.85rem;margin:.3em 0}.numbers td,.numbers th{padding:.2em .8em .2em 0}.numbers td:first-child{min-width:0}summary{cursor:pointer;color:var(--link);width:max-content;max-width:100%}
.families th[colspan]{background:var(--card);padding:.4em .6em;font-size:.95rem}.families th[colspan] b{color:var(--link)}.families th[colspan] small{display:inline;margin-left:.4em}.families td:first-child{padding-left:.6em;min-width:11em}.families .none{color:var(--soft);font-style:italic;white-space:nowrap}.families td:last-child{min-width:11em}.word.reliable{color:var(--good)}.word.unreliable,.word.broken{color:var(--bad)}.families .word{font-weight:600}.families td small{display:block}
.slider{position:sticky;top:0;z-index:1;display:none;flex-wrap:wrap;gap:.3em 1em;align-items:center;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.5em .9em;margin:.6em 0}.slider input{flex:1 1 200px;min-width:0;accent-color:var(--link)}.slider output{font-weight:650;min-width:6em;font-variant-numeric:tabular-nums}
.sweep{overflow-x:auto}.frames{display:grid;grid-template-columns:repeat(var(--steps),minmax(64px,1fr));gap:6px}.image{break-inside:avoid;margin-bottom:.5em}.image p{margin:0;line-height:1.25}.image p small{display:block;white-space:nowrap}
.frame{font-size:.75rem;line-height:1.3;color:var(--soft);overflow-wrap:anywhere}.frame img{display:block;width:100%;max-width:112px;image-rendering:pixelated;border-radius:3px;border-bottom:4px solid var(--good)}.frame.fooled img{border-bottom-color:var(--bad)}.frame b{display:block;color:var(--ink);font-weight:600}.frame span{display:block}
@media screen{.families{min-width:860px}.js .slider{display:flex}.js .sweep{overflow:visible}.js .frame:not(.now){display:none}.js .frames{display:block}.js .images{display:grid;grid-template-columns:repeat(auto-fill,minmax(112px,1fr));gap:12px}.js .head{margin-bottom:.5em}.js .head .frame{font-size:.95rem;color:var(--ink)}.js .head span,.js .head b{display:inline}}
@media print{h3,.head{break-after:avoid}.families .none{white-space:normal}.families td:last-child,.families td:first-child{min-width:0}.scroll,.sweep,figure.chart{overflow:visible}table{font-size:8pt}th,td{padding:.3em .5em .3em 0}td.num,th.num{white-space:normal;padding-right:.6em}td.num b{font-size:inherit}td:first-child{min-width:0}.frame img{max-width:64px}.image{margin-bottom:.2em}.image p small{display:inline}details::details-content{content-visibility:visible}}
)");
}

}  // namespace pavise::report::detail
