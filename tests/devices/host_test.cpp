#include <doctest/doctest.h>

#include "saturn/base/files.h"
#include "saturn/devices/machine.h"
#include "tests/support/temporary_directory.h"

namespace saturn::devices {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

// A root with the files of /proc and /sys that a machine would show.
class FakeRoot {
 public:
  FakeRoot() {
    write("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1 kB\n");
    write("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Test CPU @ 3 GHz\nmodel name\t: other\n");
  }
  void write(const std::string& path, const std::string& content) {
    REQUIRE(make_directories(directory_of(root_.path() + path)).ok());
    REQUIRE(write_whole(root_.path() + path, content).ok());
  }
  void mount_v2(const std::string& mounted_root = "/") {
    write("/proc/self/mountinfo", "21 1 0:5 / /proc rw - proc proc rw\n30 1 0:26 " + mounted_root +
                                      " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  void mount_v1() {
    write("/proc/self/mountinfo",
          "31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
          "32 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  }
  Host read(std::vector<int> affinity = {0, 1, 2, 3}) const {
    return read_host(root_.path(), std::move(affinity));
  }

 private:
  testing::TemporaryDirectory root_;
};

TEST_SUITE("devices") {
  TEST_CASE("devices/host: without control groups the machine itself is the limit") {
    const Host host = FakeRoot().read();
    CHECK(host.cpu_model == "Test CPU @ 3 GHz");
    CHECK(host.memory_bytes == 16 * kGiB);
    CHECK(host.cpu_quota == 0);
    CHECK(host.num_usable_cores() == 4);
  }

  TEST_CASE("devices/host: the NUMA node of each core is told where the kernel tells all of them") {
    FakeRoot root;
    const std::string cpus = "/sys/devices/system/cpu/cpu";
    for (const int core : {0, 1, 2}) root.write(cpus + std::to_string(core) + "/node0/x", "");
    CHECK(root.read().numa_nodes.empty());
    root.write(cpus + "3/node12/x", "");
    root.write(cpus + "3/nodes/x", "");
    root.write(cpus + "3/topology/physical_package_id", "-1");  // comes first
    const Host host = root.read();
    CHECK(host.cores == std::vector<int>{3, 0, 1, 2});
    CHECK(host.numa_nodes == std::vector<int>{12, 0, 0, 0});
  }

  TEST_CASE("devices/host: the least limit of a version 2 group and those above it counts") {
    FakeRoot root;
    root.mount_v2();
    root.write("/proc/self/cgroup", "0::/user/job\n");
    root.write("/sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
    root.write("/sys/fs/cgroup/user/job/memory.max", "4294967296\n");
    root.write("/sys/fs/cgroup/user/cpu.max", "250000 100000\n");
    root.write("/sys/fs/cgroup/user/memory.max", "max\n");
    const Host host = root.read();
    CHECK(host.cpu_quota == doctest::Approx(2.5));
    CHECK(host.num_usable_cores() == 2);
    CHECK(host.memory_bytes == 4 * kGiB);
  }

  TEST_CASE("devices/host: a container that sees its own group as the root is limited by it") {
    FakeRoot root;
    root.mount_v2("/docker/abc");
    root.write("/proc/self/cgroup", "0::/docker/abc\n");
    root.write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    root.write("/sys/fs/cgroup/memory.max", "1073741824\n");
    const Host host = root.read();
    CHECK(host.cpu_quota == doctest::Approx(0.5));
    CHECK(host.num_usable_cores() == 1);
    CHECK(host.memory_bytes == kGiB);
  }

  TEST_CASE("devices/host: version 1 groups are read by controller and a huge number is no limit") {
    FakeRoot root;
    root.mount_v1();
    root.write("/proc/self/cgroup", "4:memory:/box\n2:cpu,cpuacct:/box/inner\n1:name=systemd:/x\n0::/\n");
    root.write("/sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_quota_us", "-1\n");
    root.write("/sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_period_us", "100000\n");
    root.write("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "300000\n");
    root.write("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    root.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    root.write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2147483648\n");
    const Host host = root.read();
    CHECK(host.cpu_quota == doctest::Approx(3));
    CHECK(host.memory_bytes == 2 * kGiB);
  }

  TEST_CASE("devices/host: damaged files are as good as none") {
    FakeRoot root;
    root.mount_v2();
    root.write("/proc/self/cgroup", "nonsense\n0::/../../etc\n:\n");
    root.write("/sys/fs/cgroup/cpu.max", "fast 0\n");
    root.write("/sys/fs/cgroup/memory.max", "-5\n");
    root.write("/proc/meminfo", "MemTotal:   some kB\n");
    const Host host = root.read({});
    CHECK(host.cpu_quota == 0);
    CHECK(host.memory_bytes == 0);
    CHECK(host.num_usable_cores() == 1);
  }

  TEST_CASE("devices/host: hyperthreads of one core are neighbours") {
    FakeRoot root;
    for (int cpu = 0; cpu < 8; ++cpu) {
      const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
      root.write(topology + "physical_package_id", std::to_string(cpu % 2) + "\n");
      root.write(topology + "core_id", std::to_string(cpu % 4 / 2) + "\n");
    }
    CHECK(root.read({0, 1, 2, 3, 4, 5, 6, 7}).cores == std::vector<int>{0, 4, 2, 6, 1, 5, 3, 7});
    CHECK(root.read({7, 3, 0}).cores == std::vector<int>{0, 3, 7});
  }

  TEST_CASE("devices/host: this machine has cores and memory") {
    const Host host = this_host();
    CHECK_FALSE(host.cores.empty());
    CHECK(host.num_usable_cores() >= 1);
    CHECK(host.memory_bytes > kGiB / 4);
    CHECK_FALSE(host.cpu_model.empty());
    CHECK(available_memory_bytes() > 0);
  }
}

}  // namespace
}  // namespace saturn::devices
