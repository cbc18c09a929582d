#include "saturn/worker/child_output.h"

#include <doctest/doctest.h>
#include <signal.h>

#include "saturn/base/clock.h"
#include "saturn/worker/gpu_probe.h"
#include "worker/processes.h"

namespace saturn::worker {
namespace {

const SystemClock kClock;

Result<ChildOutput> shell(const std::string& script, double deadline_s = 10) {
  return run_child({.executable = "/bin/sh", .arguments = {"-c", script}, .deadline_s = deadline_s});
}

Result<devices::GpuReport> probe(const std::string& script, double deadline_s = 10) {
  return make_gpu_probe({.executable = "/bin/sh",
                         .arguments = {"-c", script},
                         .deadline_s = deadline_s,
                         .look_first = false})();
}

TEST_SUITE("worker") {
  TEST_CASE("worker/child_output: gives what was printed and how it ended") {
    const auto talker = shell("echo out; echo err >&2; exit 3");
    REQUIRE(talker.ok());
    CHECK(talker->stdout_text == "out\n");
    CHECK(talker->stderr_text == "err\n");
    CHECK(talker->exit_code == 3);
    const auto killed = shell("kill -SEGV $$");
    REQUIRE(killed.ok());
    CHECK(killed->exit_code == -1);
    CHECK(killed->signal == SIGSEGV);
    const auto reader = shell("read line || echo nothing to read");
    REQUIRE(reader.ok());
    CHECK(reader->stdout_text == "nothing to read\n");
  }

  TEST_CASE("worker/child_output: nothing outlives the deadline and nobody floods") {
    const double start_s = kClock.now_s();
    for (const char* script : {"sleep 100", "exec >/dev/null 2>&1; sleep 100", "sleep 100 & sleep 100"}) {
      CAPTURE(std::string(script));
      const auto late = shell(script, 0.2);
      REQUIRE_FALSE(late.ok());
      CHECK(late.faults().front().what.find("did not end within 0.20 s") != std::string::npos);
    }
    CHECK(kClock.now_s() - start_s < 90.0);  // none of them slept its hundred seconds
    const auto flood =
        shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
              /*deadline_s=*/100);
    REQUIRE_FALSE(flood.ok());
    CHECK(flood.faults().front().what.find("printed too much") != std::string::npos);
  }

  TEST_CASE("worker/gpu_probe: reads what the probe prints") {
    const auto report = probe(
        "echo '{\"usable\": true, \"reason\": \"\", \"gpus\": [{\"index\": 0, \"name\": \"NVIDIA H200\", "
        "\"uuid\": \"GPU-1\","
        "\"memory_bytes\": 150000000000, \"used_bytes\": 5, \"capability_major\": 9,"
        "\"capability_minor\": 0, \"numa_node\": 1, \"links\": [{\"to\": 1, \"path\": \"nvlink\"}],"
        "\"processes\": [{\"pid\": 7, \"name\": \"python3\", \"used_bytes\": 5}]}]}'");
    REQUIRE(report.ok());
    REQUIRE(report->gpus.size() == 1);
    CHECK(report->usable);
    CHECK(report->gpus.front() ==
          devices::Gpu{.name = "NVIDIA H200",
                       .uuid = "GPU-1",
                       .memory_bytes = 150'000'000'000,
                       .used_bytes = 5,
                       .capability_major = 9,
                       .numa_node = 1,
                       .links = {{.to = 1, .path = "nvlink"}},
                       .processes = {{.pid = 7, .name = "python3", .used_bytes = 5}}});
  }

  TEST_CASE("worker/gpu_probe: a probe that crashes or hangs or babbles is a fault and no GPU") {
    for (const char* script :
         {"exit 1", "kill -ABRT $$", "sleep 100", "echo hello", "echo '{\"gpus\": [{}]}'", "echo '[]'"}) {
      CAPTURE(std::string(script));
      const auto report = probe(script, 0.3);
      REQUIRE_FALSE(report.ok());
      CHECK_FALSE(report.faults().front().what.empty());
      const auto machine = devices::detect_machine({}, [&] { return probe(script, 0.3); },
                                                   {.cores = {0, 1}, .memory_bytes = std::int64_t{8} << 30});
      REQUIRE(machine.ok());
      CHECK(machine->nodes.front().device_class == "cpu");
    }
  }
}

}  // namespace
}  // namespace saturn::worker
