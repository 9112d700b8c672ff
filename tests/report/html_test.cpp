// SPDX-License-Identifier: MIT
#include "pavise/report/html.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "core/text_checks.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/sha256.hpp"
#include "report/sample_records.hpp"

namespace fs = std::filesystem;
namespace pv = pavise;
using namespace pavise::report;
using pavise_test::contains;
using pavise_test::Json;
using pavise_test::sample_records;

namespace {

/// A directory of its own that is removed in the end.
struct Scratch {
  fs::path path;
  Scratch() {
    std::string name = (fs::temp_directory_path() / "pavise-report-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::size_t scripts(const std::string& page) {
  std::size_t n = 0;
  for (auto p = page.find("<script"); p != std::string::npos; p = page.find("<script", p + 1)) {
    ++n;
  }
  return n;
}

/// The message of the ValueError that reading the changed sample gives.
std::string refusal(std::size_t record, const std::function<void(Json&)>& change) {
  auto records = sample_records();
  records[record]["file"] = "runs/x.json";
  change(records[record]);
  try {
    render_report(records);
  } catch (const pv::ValueError& error) {
    return error.what();
  }
  return "no ValueError";
}

}  // namespace

TEST_CASE("report: every command, count, interval and picture is on the page, and nothing is fetched") {
  const auto records = sample_records();
  const auto page = render_report(records);
  for (const auto& record : records) {
    CHECK(contains(page, ">" + record["command"].get<std::string>() + "</code>"));
  }
  for (const char* words :
       {"634 of 1,000", "63.4 %", "60.3 to 66.4 %", "91.3 %", "913 of 1,000", "165,514 parameters", "seed 7",
        "g++ 12.2, avx2, 2 threads, OpenMP", "511,000 forward and 500,000 backward passes", "14.2 s",
        "catastrophic overfitting: rolled back to epoch 3", "upper bound", "Sneaker", "difference", "magnified 5 times",
        "costs 8.6 points of clean accuracy", "steps 50, restarts 10, step size 0.01"}) {
    CAPTURE(words);
    CHECK(contains(page, words));
  }
  std::size_t pictures = 0;
  for (auto p = page.find("src=\"data:image/png;base64,"); p != std::string::npos; p = page.find("src=\"", p + 1)) {
    ++pictures;
  }
  CHECK(pictures == 3 * 6 * 3 + 3 * 3 * 4);  // the gallery, and three images at four radii
  CHECK(!contains(page, "<link"));
  CHECK(!contains(page, "@import"));
  CHECK(!contains(page, "url("));
  // The one address on the page is the name of SVG's namespace.
  for (auto p = page.find("://"); p != std::string::npos; p = page.find("://", p + 1)) {
    CHECK(page.compare(p - 4, 26, "http://www.w3.org/2000/svg") == 0);
  }
}

TEST_CASE("report: one script, and a policy that lets it run and nothing else") {
  const auto page = render_report(sample_records());
  CHECK(scripts(page) == 1);
  const auto start = page.find("<script>") + 8;
  const auto script = page.substr(start, page.find("</script>") - start);
  CHECK(script == detail::kScript);
  const auto digest = pv::Sha256().add(script.data(), script.size()).digest();
  const std::string bytes(digest.begin(), digest.end());
  CHECK(contains(page, "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" +
                           base64(bytes) + "'; base-uri 'none'; form-action 'none'\">"));
  CHECK(page.find("http-equiv=\"Content-Security-Policy\"") < page.find("<style>"));
}

TEST_CASE("report: the slider has every image at every radius, with its prediction, and starts at the attack's own") {
  auto records = sample_records();
  std::swap(records[4]["sweep"]["steps"][0], records[4]["sweep"]["steps"][3]);  // the order in the file does not count
  const auto page = render_report(records);
  CHECK(contains(page, "<input type=\"range\" id=\"sweep-1\" min=\"0\" max=\"3\" step=\"1\" value=\"2\""));
  CHECK(contains(page, "<label for=\"sweep-1\">"));
  CHECK(!contains(page, "sweep-2"));  // the three models share their radii and images
  CHECK(contains(page, "<div class=\"frame\" data-step=\"1\"><img alt=\"Image 1 at ε = 0.05\""));
  CHECK(contains(page, "<div class=\"frame fooled\" data-step=\"2\"><img alt=\"Image 1 at ε = 0.1\""));
  CHECK(contains(page, "<b>✗ Coat</b> 80 %"));
  records[4]["sweep"]["steps"].erase(0);
  CHECK(contains(render_report(records), "<label for=\"sweep-2\">"));  // other radii, another slider
  for (auto& record : records) {
    record.erase("sweep");
  }
  CHECK(!contains(render_report(records), "type=\"range\""));
}

TEST_CASE("report: every number's link leads to a command on the page") {
  const auto page = render_report(sample_records());
  std::size_t links = 0;
  for (auto p = page.find("href=\"#"); p != std::string::npos; p = page.find("href=\"#", p + 1)) {
    const auto start = p + 7;
    const auto id = page.substr(start, page.find('"', start) - start);
    CAPTURE(id);
    CHECK(contains(page, "id=\"" + id + "\""));
    ++links;
  }
  CHECK(links >= 3 * 3 + 3);
}

TEST_CASE("report: a note about the data is the first line of the page, once") {
  auto records = sample_records();
  const std::string note = "Fashion-MNIST could not be installed; the embedded procedural digits took its place";
  for (auto& record : records) {
    record["data_note"] = note;
  }
  const auto page = render_report(records);
  const auto body = page.find("<body");
  const auto first = page.find('\n', body) + 1;
  CHECK(page.substr(first, page.find('\n', first) - first) == "<p class=\"note\">" + note + "</p>");
  CHECK(page.find(note, page.find(note) + 1) == std::string::npos);
  CHECK(!contains(render_report(sample_records()), "class=\"note\""));
}

TEST_CASE("report: models stand in the order of their training, whatever the order of the records") {
  auto records = sample_records();
  std::reverse(records.begin(), records.end());
  CHECK(contains(render_report(records), "3 models (Plain, FGSM-RS and PGD-7) on fashion-mnist"));
}

TEST_CASE("report: hostile text stays text") {
  auto records = sample_records();
  const std::string hostile = "</code><script>alert(1)</script>\"'&";
  for (auto& record : records) {
    for (const char* key : {"command", "data", "data_note", "model", "model_file", "label", "date", "version"}) {
      record[key] = hostile;
    }
    record["build"]["compiler"] = hostile;
    record["recipe"][hostile] = hostile;
    if (record["kind"] == "attack") {
      record["attack"] = hostile;
      record["norm"] = hostile;
      record["class_names"] = std::vector<std::string>(10, hostile);
    } else {
      record["history"][0]["events"] = {hostile};
    }
  }
  const auto page = render_report(records);
  CHECK(scripts(page) == 1);  // the page's own
  CHECK(!contains(page, "alert(1)</script"));
  CHECK(contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
}

TEST_CASE("report: an evaluation shows its verdict, every attack with a strip of the images, and the evidence") {
  auto records = sample_records();
  for (const std::string verdict : {"reliable", "unreliable", "undecided"}) {
    CAPTURE(verdict);
    records.push_back(pavise_test::evaluation_record(verdict));
    const auto page = render_report(records);
    const auto& e = records.back()["evaluation"];
    CHECK(contains(page, "<p class=\"verdict " + verdict + "\"><b>" + verdict + "</b>"));
    CHECK(contains(page, "robust accuracy 60.0"));
    CHECK(contains(page, "<small class=\"word " + verdict + "\">verdict: " + verdict + "</small>"));  // the tile
    for (const auto& row : e["attacks"]) {
      const auto name = row["name"].get<std::string>();
      CAPTURE(name);
      CHECK(contains(page, "<b>" + name + "</b>"));
      CHECK(contains(page, pv::concat(name, ": ", row["broken"].get<int>(), " of ", row["tried"].get<int>(),
                                      " images broken\" src=\"data:image/png")));
    }
    for (const auto& sign : e["signs"]) {
      CHECK(contains(page, sign["sentence"].get<std::string>()));
    }
    CHECK(contains(page, "Security curve"));
    // What failed is open to the reader, who need not look for it.
    CHECK(contains(page, "<details open><summary>The evidence") == (verdict != "reliable"));
    records.pop_back();
  }
  CHECK_FALSE(contains(render_report(records), "id=\"evaluation\""));
}

TEST_CASE("report: the strip of an attack orders images by what broke them") {
  const Json record = pavise_test::evaluation_record();
  const auto e = detail::read_evaluation(detail::Field(&record["evaluation"], "x.json", ""));
  const auto order = detail::matrix_order(e);
  REQUIRE(order.size() == 1000);
  CHECK(e.broken_by[order[0]] == -1);
  CHECK(e.broken_by[order[599]] == -1);
  CHECK(e.broken_by[order[600]] == 3);
  CHECK(e.broken_by[order[601]] == 2);
  CHECK(e.broken_by[order[826]] == 0);
  CHECK(e.broken_by[order[827]] == -2);
  const auto strip = detail::matrix_strip(e, e.attacks[1], order);
  CHECK(strip.width == 1000);
  const auto colour_at = [&](std::size_t x) {
    return detail::Rgb{strip.pixels[3 * x], strip.pixels[3 * x + 1], strip.pixels[3 * x + 2]};
  };
  CHECK(colour_at(0) == detail::kCellColours[0].rgb);    // stood
  CHECK(colour_at(607) == detail::kCellColours[1].rgb);  // broken by this one
  CHECK(colour_at(700) == detail::kCellColours[2].rgb);  // by the one before
  CHECK(colour_at(900) == detail::kCellColours[3].rgb);  // wrong from the start
}

TEST_CASE("report: a table of filters shows what they do to images and what they are worth") {
  Json table = pavise_test::origin("filters", "none");
  table["kind"] = "filters";
  table["command"] = "pavise filters --filter jpeg:75";
  table["norm"] = "linf";
  table["epsilon"] = 0.1;
  const auto point = [](const char* filters, bool random, int unaware, int adaptive) {
    return Json{{"filters", filters},
                {"random", random},
                {"differentiable", random},
                {"clean", pavise_test::count(95, 100)},
                {"unaware", pavise_test::count(unaware, 100)},
                {"adaptive", pavise_test::count(adaptive, 100)}};
  };
  table["points"] = {point("", false, 3, 3), point("jpeg:75", false, 61, 2), point("thermometer:4", true, 50, 1)};
  const Json pixels = std::vector<int>(12, 100);
  table["gallery"] = {{"shape", {3, 2, 2}},
                      {"items", {{{"index", 7}, {"label", 1}, {"clean", pixels}, {"filtered", {pixels, nullptr}}}}}};
  auto records = sample_records();
  records.push_back(table);
  for (const auto& page : {render_report({table}), render_report(records)}) {
    CHECK(contains(page, "id=\"filters\""));
    CHECK(contains(page, "pavise filters --filter jpeg:75"));
    CHECK(contains(page, "<b>jpeg:75</b></td><td>fixed, not differentiable"));
    CHECK(contains(page, "<b>61.0 %</b>"));
    CHECK(contains(page, "alt=\"Image 7 behind jpeg:75\""));
    CHECK_FALSE(contains(page, "Image 7 behind thermometer:4"));  // of another shape: no picture
  }
  Json wrong = table;
  wrong["points"][1]["random"] = 1;
  CHECK_THROWS_WITH_AS(render_report({wrong}), doctest::Contains("points[1].random: expected true or false"),
                       pv::ValueError);
  wrong = table;
  wrong["gallery"]["items"][0]["filtered"] = Json::array();
  CHECK_THROWS_WITH_AS(render_report({wrong}), doctest::Contains("an image for each of 2 filters, got 0"),
                       pv::ValueError);
  wrong["points"] = Json::array();
  CHECK_THROWS_WITH_AS(render_report({wrong}), doctest::Contains("one filter or more"), pv::ValueError);
}

TEST_CASE("report: a sweep of distillation is a picture, a table and a verdict, alone or among other records") {
  const auto fooled = [](int k) { return Json{{"fooled", k}, {"total", 90}}; };
  Json sweep = pavise_test::origin("distillation", "distill");
  sweep["kind"] = "distillation";
  sweep["command"] = "pavise distill --temperatures 1,100";
  sweep["epsilon"] = 0.1;
  for (const double t : {1.0, 100.0}) {
    const bool hot = t > 1;
    sweep["points"].push_back({{"temperature", t},
                               {"teacher", pavise_test::count(91, 100)},
                               {"student", pavise_test::count(90, 100)},
                               {"mean_logit", hot ? 613.0 : 4.0},
                               {"zero_gradients", hot ? 0.78 : 0.0},
                               {"fgsm", fooled(hot ? 9 : 81)},
                               {"jsma", fooled(hot ? 15 : 90)},
                               {"apgd_dlr", fooled(83)},
                               {"carlini_wagner", fooled(90)},
                               {"carlini_wagner_distance", 1.2}});
  }
  auto records = sample_records();
  records.push_back(sweep);
  for (const auto& page : {render_report({sweep}), render_report(records)}) {
    CHECK(contains(page, "id=\"distillation\""));
    CHECK(contains(page, "pavise distill --temperatures 1,100"));
    CHECK(contains(page, "<b>unreliable</b>: defensive distillation hides gradients"));
    CHECK(contains(page, "613"));
    CHECK(contains(page, "78 %"));
    CHECK(contains(page, "Carlini-Wagner on logits"));
  }
  sweep["points"][1]["zero_gradients"] = 1.5;
  CHECK_THROWS_WITH_AS(render_report({sweep}), doctest::Contains("points[1].zero_gradients"), pv::ValueError);
  sweep["points"] = Json::array();
  CHECK_THROWS_WITH_AS(render_report({sweep}), doctest::Contains("one temperature or more"), pv::ValueError);
}

TEST_CASE("report: what is wrong in an evaluation is named") {
  const auto refused = [](const std::function<void(Json&)>& change) {
    Json record = pavise_test::evaluation_record();
    record["file"] = "runs/x.json";
    change(record["evaluation"]);
    try {
      render_report({record});
    } catch (const pv::ValueError& error) {
      return std::string(error.what());
    }
    return std::string("no ValueError");
  };
  CHECK(contains(refused([](Json& e) { e["verdict"] = "fine"; }), "expected reliable, unreliable or undecided"));
  CHECK(contains(refused([](Json& e) { e["matrix"].erase(0); }), "expected one for each of 4 attacks"));
  CHECK(contains(refused([](Json& e) { e["matrix"][1] = "ox"; }), "matrix[1]"));
  CHECK(contains(refused([](Json& e) { e["matrix"][1].get_ref<std::string&>()[5] = '?'; }), "matrix[1]"));
  CHECK(contains(refused([](Json& e) { e["images"][3]["broken_by"] = 4; }), "images[3].broken_by"));
  CHECK(contains(refused([](Json& e) { e["images"].erase(0); }), "expected 1000"));
  CHECK(contains(refused([](Json& e) { e["attacks"][2]["broken"] = 5000; }), "attacks[2].broken"));
  CHECK(contains(refused([](Json& e) { e.erase("signs"); }), "signs"));
}

TEST_CASE("report: training alone, attacks alone, absent options and colour images") {
  auto records = sample_records();
  CHECK(contains(render_report({records.begin(), records.begin() + 3}), "No attack was run yet"));
  const auto attacks = render_report({records.begin() + 3, records.end()});
  CHECK(!contains(attacks, "id=\"training\""));
  CHECK(contains(attacks, "634 of 1,000"));
  Json bare = records.back();
  for (const char* key : {"curve", "gallery", "passes", "class_names", "seconds", "seed", "build", "recipe", "date"}) {
    bare.erase(key);
  }
  CHECK(contains(render_report({bare}), "634 of 1,000"));
  Json colour = records.back();
  colour["gallery"]["shape"] = {3, 2, 2};
  colour["gallery"]["items"] = {colour["gallery"]["items"][0]};
  auto& item = colour["gallery"]["items"][0];
  item["clean"] = std::vector<int>(12, 100);
  item["adversarial"] = std::vector<double>(12, 100.25);
  item["label"] = 99;
  CHECK(contains(render_report({colour}), "class 99"));
  Json diverged = records[0];
  diverged["history"][2]["loss"] = nullptr;
  CHECK(contains(render_report({diverged}), "id=\"training\""));
}

TEST_CASE("report: a missing or wrong field is named with its file") {
  CHECK(refusal(0, [](Json& r) { r.erase("kind"); }) == "runs/x.json: field kind: missing");
  CHECK(refusal(0, [](Json& r) { r["kind"] = "certificate"; }) ==
        "runs/x.json: field kind: got \"certificate\", expected \"training\", \"attack\", \"evaluation\", "
        "\"distillation\", \"filters\", \"detection\", \"certification\" or \"bounds\"");
  CHECK(refusal(0, [](Json& r) { r.erase("command"); }) == "runs/x.json: field command: missing");
  CHECK(refusal(0, [](Json& r) { r["history"] = 3; }) ==
        "runs/x.json: field history: expected an array, got a value of type number");
  CHECK(refusal(1, [](Json& r) { r["history"][2]["accuracy"].erase("total"); }) ==
        "runs/x.json: field history[2].accuracy.total: missing");
  CHECK(refusal(4, [](Json& r) { r["robust"]["correct"] = 1001; }) ==
        "runs/x.json: field robust.correct: got 1001, expected 0 to 1000");
  CHECK(refusal(4, [](Json& r) { r["robust"]["correct"] = 63.4; }) ==
        "runs/x.json: field robust.correct: expected an integer, got a value of type number");
  CHECK(refusal(4, [](Json& r) { r["robust"]["total"] = 0; }).starts_with("runs/x.json: field robust.total: got 0"));
  CHECK(refusal(4, [](Json& r) { r["epsilon"] = -0.1; }).starts_with("runs/x.json: field epsilon: got -0.1"));
  CHECK(refusal(4, [](Json& r) { r["curve"][3]["epsilon"] = "x"; }) ==
        "runs/x.json: field curve[3].epsilon: expected a number, got a value of type string");
  CHECK(refusal(4, [](Json& r) {
          r["gallery"]["shape"] = {1, 28};
        }) == "runs/x.json: field gallery.shape: expected (C,H,W), got 2 numbers");
  CHECK(refusal(4, [](Json& r) {
          r["gallery"]["shape"] = {3, 28, 28};
        }) == "runs/x.json: field gallery.items[0].clean: expected 2352 pixels, got 784");
  CHECK(refusal(4, [](Json& r) {
          r["gallery"]["items"][1]["adversarial"][5] = 300;
        }).starts_with("runs/x.json: field gallery.items[1].adversarial[5]: got 300"));
  CHECK(refusal(4, [](Json& r) { r["sweep"]["steps"][1]["images"].erase(0); }) ==
        "runs/x.json: field sweep.steps[1].images: expected one for each of 3 images, got 2");
  CHECK(refusal(4, [](Json& r) { r["sweep"]["steps"] = Json::array(); }) ==
        "runs/x.json: field sweep: expected one image or more at one radius or more");
  CHECK(refusal(4, [](Json& r) { r["sweep"]["steps"][0]["images"][0]["pixels"].erase(0); }) ==
        "runs/x.json: field sweep.steps[0].images[0].pixels: expected 784 pixels, got 783");
  CHECK(
      refusal(4, [](Json& r) { r["seed"] = std::uint64_t{1} << 63; }).starts_with("runs/x.json: field seed: got 9223"));
  CHECK_THROWS_WITH_AS(render_report({}), "report: got no records, expected at least one training or attack",
                       pv::ValueError);
  CHECK_THROWS_WITH_AS(render_report({Json(3)}), "record 0: the record: expected an object, got a value of type number",
                       pv::ValueError);
}

TEST_CASE("report: records are collected from a directory and below it, in the order of their paths") {
  const Scratch scratch;
  const auto records = sample_records();
  write(scratch.path / "b" / "pgd.json", records[8].dump());
  write(scratch.path / "a.json", records[2].dump());
  write(scratch.path / "notes.txt", "not a record");
  const auto found = collect_records(scratch.path.string());
  REQUIRE(found.size() == 2);
  CHECK(found[0]["file"] == "a.json");
  CHECK(found[1]["file"] == "b/pgd.json");
  CHECK(found[1]["robust"] == records[8]["robust"]);
  CHECK(contains(render_report(found), "from b/pgd.json"));
}

TEST_CASE("report: an empty directory, a missing one, and files that are not records") {
  const Scratch scratch;
  const auto collect = [&] { return collect_records(scratch.path.string()); };
  CHECK_THROWS_WITH_AS(
      collect(),
      ("report: no *.json in " + scratch.path.string() + ", expected the records of at least one training or attack")
          .c_str(),
      pv::IoError);
  CHECK_THROWS_AS(collect_records((scratch.path / "missing").string()), pv::IoError);
  const auto message = [&](const std::string& text) -> std::string {
    write(scratch.path / "x.json", text);
    try {
      collect();
    } catch (const pv::Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto file = (scratch.path / "x.json").string();
  CHECK(message("{\"kind\": ").starts_with(file + ": byte 10: not JSON"));
  CHECK(message("").starts_with(file + ": byte 1: not JSON"));
  CHECK(message(std::string(100000, '[')).starts_with(file + ": JSON: nested deeper"));
  CHECK(message("{\"kind\": 1e999}").starts_with(file + ": not JSON"));
  CHECK(message("[1]") == file + ": the record: expected an object, got a value of type array");
  CHECK(message("{}") == file + ": field kind: missing");
}

TEST_CASE("report: the page is written whole or not at all") {
  const Scratch scratch;
  const auto directory = scratch.path / "new" / "robustness-report";
  const auto written = write_report(sample_records(), directory.string());
  CHECK(written == (directory / "index.html").string());
  CHECK(read(written) == render_report(sample_records()));
  CHECK(write_report(sample_records(), (scratch.path / "page.html").string()) == (scratch.path / "page.html").string());

  // A bad record leaves the old page as it was, and nothing beside it.
  auto bad = sample_records();
  bad[8].erase("robust");
  const auto before = read(written);
  CHECK_THROWS_AS(write_report(bad, directory.string()), pv::ValueError);
  CHECK(read(written) == before);
  // Where the page cannot be put in its place, no part of it stays behind.
  fs::create_directories(scratch.path / "taken" / "index.html" / "in the way");
  CHECK_THROWS_AS(write_report(sample_records(), (scratch.path / "taken").string()), pv::IoError);
  for (const auto& folder : {directory, scratch.path / "taken"}) {
    CHECK(std::distance(fs::directory_iterator(folder), fs::directory_iterator()) == 1);
  }
  write(scratch.path / "file", "");
  CHECK_THROWS_AS(write_report(sample_records(), (scratch.path / "file" / "report").string()), pv::IoError);
}
