// Techniques from shared objects, through the built executable: listed, measured, trained with, and each way
// of going wrong told.

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "saturn/base/clock.h"
#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/worker/catalogue.h"
#include "saturn/worker/child_output.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {
namespace {

/// A batch of one job on one CPU slot beside a text, with a technique's library.
struct Bench {
  TemporaryDirectory directory;
  std::string batch;

  Bench(const std::string& name, const std::string& library, const std::string& technique,
        int micro_batches = 1) {
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += "the quick brown fox jumps over the lazy dog " + std::to_string(i % 7) + "\n";
    REQUIRE(write_whole(directory.file("text.txt"), text).ok());
    batch = directory.file("batch.toml");
    REQUIRE(write_whole(batch,
                        "[batch]\nname = \"plugin\"\n\n[devices]\ncpu_slots = 1\nthreads_per_slot = 1\n\n"
                        "[profile]\nwarmup_steps = 1\ntrial_steps = 2\n\n[plan]\niterations = 50\n\n"
                        "[techniques." +
                            name + "]\nlibrary = \"" + library +
                            "\"\n\n"
                            "[data.text]\nkind = \"text\"\npath = \"text.txt\"\nsequence_length = 32\n\n"
                            "[[job]]\nname = \"one\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 6\n"
                            "batch_size = 60\ndropout = 0.1\nmicro_batches = " +
                            std::to_string(micro_batches) + "\ntechniques = [\"" + technique +
                            "\"]\n[job.optimizer]\nlr = 1e-2\n")
                .ok());
  }

  worker::ChildOutput saturn(std::vector<std::string> arguments) const {
    auto output = worker::run_child({.executable = binary_directory() + "/saturn",
                                     .arguments = std::move(arguments),
                                     .deadline_s = 120.0});
    REQUIRE(output.ok());
    return *std::move(output);
  }
};

std::string library(const std::string& name) {
  return std::string(SATURN_PLUGINS) + "/lib" + name + ".so";
}

std::vector<double> losses_under(const std::string& technique) {
  const Bench bench("row-by-row", library("row_by_row"), technique);
  const auto ran = bench.saturn({"run", bench.batch, "--dir", bench.directory.file("run"), "--quiet"});
  CAPTURE(ran.stderr_text);
  REQUIRE(ran.exit_code == 0);
  std::vector<double> losses;
  const std::string text = *read_whole(bench.directory.file("run/jobs/one/metrics.jsonl"));
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    const Json line = *parse_json(text.substr(at, text.find('\n', at) - at), "metrics.jsonl");
    if (line.contains("loss")) losses.push_back(line["loss"].get<double>());
  }
  return losses;
}

}  // namespace

TEST_SUITE("plugin") {
  TEST_CASE("plugin/catalogue: a batch's technique is listed beside those of the build") {
    const Bench bench("row-by-row", library("row_by_row"), "row-by-row");
    const auto listed = bench.saturn({"techniques", bench.batch, "--json"});
    CAPTURE(listed.stderr_text);
    REQUIRE(listed.exit_code == 0);
    const Json document = *parse_json(listed.stdout_text, "techniques");
    const Json& techniques = document.at("techniques");
    CHECK(techniques.size() == batch::technique_specs().size() + 1);
    CHECK(techniques.back().at("name") == "row-by-row");
    CHECK(techniques.back().at("applies_to") == "one GPU, a share of one, or a CPU slot");
  }

  TEST_CASE("plugin/example: row by row is profiled and planned and trains as single does") {
    const std::vector<double> want = losses_under("single");
    const std::vector<double> got = losses_under("row-by-row");
    REQUIRE(want.size() == 6);
    REQUIRE(got.size() == 6);
    CHECK(want.front() - want.back() > 0.05);
    for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::abs(got[i] - want[i]) < 1e-5 * want[i]);
  }

  TEST_CASE("plugin/trial: a technique that throws or crashes in its trial is an outcome with its reason") {
    for (const auto& [micro_batches, reason] :
         std::vector<std::pair<int, std::string>>{{2, "step 0 does not work"}, {3, "signal 11"}}) {
      CAPTURE(micro_batches);
      const Bench bench("faulty", library("faulty_technique"), "faulty", micro_batches);
      const auto profiled =
          bench.saturn({"profile", bench.batch, "--dir", bench.directory.file("run"), "--json", "--quiet"});
      CAPTURE(profiled.stderr_text);
      REQUIRE(profiled.exit_code == 0);
      const Json profile = *parse_json(profiled.stdout_text, "profile");
      REQUIRE(profile.at("trials").size() == 1);
      CHECK(profile["trials"][0].at("outcome") == "failed");
      CHECK(profile["trials"][0].at("reason").get<std::string>().find(reason) != std::string::npos);
    }
  }

  TEST_CASE("plugin/refused: a library that cannot be used is told at its line") {
    struct Row {
      std::string name, library;
      int micro_batches;
      std::string message;
    };
    for (const Row& row : std::vector<Row>{
             {"foreign", library("foreign_technique"), 1, "this library was built for \"saturn 0.0.1\""},
             {"nothing", library("no_technique"), 1, "this library has no symbol saturn_technique_abi"},
             {"text", "text.txt", 1, "this library cannot be loaded: "},
             {"absent", "absent.so", 1, "absent.so"},
             {"by-row", library("row_by_row"), 1, "the technique in this library is called \"row-by-row\""},
             {"single", library("row_by_row"), 1, "has the name of a technique of this build"},
             {"faulty", library("faulty_technique"), 4, "this library threw: no idea"},
             {"faulty", library("faulty_technique"), 5, "this library crashed (signal 11)"},
         }) {
      CAPTURE(row.message);
      const Bench bench(row.name, row.library, row.name, row.micro_batches);
      const auto output =
          bench.saturn({"profile", bench.batch, "--dir", bench.directory.file("run"), "--quiet"});
      CAPTURE(output.stderr_text);
      CHECK(output.exit_code == 2);
      CHECK(output.stderr_text.find("batch.toml:1") != std::string::npos);
      CHECK(output.stderr_text.find(row.message) != std::string::npos);
    }
  }

  TEST_CASE("plugin/hang: a library that does not come back when asked is given up at the deadline") {
    const Bench bench("faulty", library("faulty_technique"), "faulty", 6);
    const auto batch = batch::read_batch(bench.batch);
    REQUIRE(batch.ok());
    const SystemClock clock;
    const double began_s = clock.now_s();
    const auto learnt =
        worker::learn_techniques(*batch, {{.kind = "cpu", .device_class = "cpu", .num_devices = 1}},
                                 {.executable = binary_directory() + "/saturn", .deadline_s = 5.0});
    CHECK(clock.now_s() - began_s < 20.0);
    REQUIRE(!learnt.ok());
    CHECK(learnt.faults().front().kind == Kind::input);
    CHECK(learnt.faults().front().where == bench.batch + ":16:11");
    CHECK(learnt.faults().front().what.find("did not end within 5") != std::string::npos);
    CHECK(batch::find_technique("faulty") == nullptr);
    // Only the child opened it.
    CHECK(read_whole("/proc/self/maps")->find("libfaulty_technique") == std::string::npos);
  }

  TEST_CASE("plugin/add: a batch that joins a run brings the library of its technique along") {
    const Bench bench("row-by-row", library("row_by_row"), "row-by-row");
    const std::string with_library = *read_whole(bench.batch);
    const auto without = [](std::string text, const std::string& from, const std::string& to) {
      const std::size_t at = text.find(from);
      REQUIRE(at != std::string::npos);
      const std::size_t end = to.empty() ? text.find("\n\n", at) + 2 : at + from.size();
      return text.replace(at, end - at, to);
    };
    const std::string added = bench.directory.file("added.toml");
    REQUIRE(write_whole(added, without(with_library, "name = \"one\"", "name = \"two\"")).ok());
    REQUIRE(write_whole(bench.batch, without(without(with_library, "[techniques.row-by-row]", ""),
                                             "techniques = [\"row-by-row\"]", "techniques = [\"single\"]"))
                .ok());
    const std::string run = bench.directory.file("run");
    const auto first = bench.saturn({"run", bench.batch, "--dir", run, "--quiet"});
    CAPTURE(first.stderr_text);
    REQUIRE(first.exit_code == 0);
    const auto joined = bench.saturn({"add", run, added});
    CAPTURE(joined.stderr_text);
    REQUIRE(joined.exit_code == 0);
    const auto second = bench.saturn({"run", bench.batch, "--dir", run, "--quiet"});
    CAPTURE(second.stderr_text);
    REQUIRE(second.exit_code == 0);
    const Json summary = *parse_json(*read_whole(run + "/summary.json"), "summary.json");
    std::map<std::string, std::string> technique_of;
    for (const Json& job : summary.at("jobs")) {
      CHECK(job.at("state") == "done");
      technique_of[job.at("name").get<std::string>()] = job.at("techniques").dump();
    }
    CHECK(technique_of.at("one").find("single") != std::string::npos);
    CHECK(technique_of.at("two").find("row-by-row") != std::string::npos);
  }

  TEST_CASE("plugin/path: a relative path is taken from where the batch lies") {
    const Bench bench("row-by-row", "lib/row.so", "row-by-row");
    std::filesystem::create_directory(bench.directory.file("lib"));
    std::filesystem::copy_file(library("row_by_row"), bench.directory.file("lib/row.so"));
    const auto listed = bench.saturn({"techniques", bench.batch});
    CAPTURE(listed.stderr_text);
    CHECK(listed.exit_code == 0);
    CHECK(listed.stdout_text.find("row-by-row") != std::string::npos);
  }
}

}  // namespace saturn::testing
