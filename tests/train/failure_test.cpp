// Every kind of end has its class, and first weights do not depend on who reads them.

#include "train/failure.h"

#include <c10/util/Exception.h>

#include <new>
#include <stdexcept>

#include "saturn/train/parameter.h"
#include "tests/support/torch_doctest.h"

namespace saturn::train {

TEST_SUITE("train") {
  TEST_CASE("train/failure: what is thrown is told apart") {
    using worker::ErrorClass;
    struct Row {
      std::string label;
      std::function<void()> thrown;
      ErrorClass want;
    };
    const auto fail = [](Kind kind, ErrorClass otherwise) {
      return [kind, otherwise] { require(Result<void>(Diagnostic{.kind = kind, .what = "so"}), otherwise); };
    };
    const std::vector<Row> rows = {
        {"device memory", [] { TORCH_CHECK_WITH(OutOfMemoryError, false, "no"); }, ErrorClass::out_of_memory},
        {"host memory", [] { throw std::bad_alloc(); }, ErrorClass::host_out_of_memory},
        {"a peer that closed",
         [] {
           throw std::runtime_error(
               "[gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:1");
         },
         ErrorClass::peer_lost},
        {"the store", [] { TORCH_CHECK_WITH(DistStoreError, false, "no"); }, ErrorClass::peer_lost},
        {"no such kernel", [] { TORCH_CHECK_NOT_IMPLEMENTED(false, "no"); }, ErrorClass::unsupported},
        {"a fault of the data", fail(Kind::input, ErrorClass::data), ErrorClass::data},
        {"a full disk wherever it shows", fail(Kind::disk_full, ErrorClass::data), ErrorClass::disk_full},
        {"a GPU that is gone (fault 21)",
         [] { TORCH_CHECK(false, "CUDA error: uncorrectable ECC error encountered"); },
         ErrorClass::device_lost},
        {"anything of LibTorch", [] { TORCH_CHECK(false, "no"); }, ErrorClass::internal},
        {"anything else", [] { throw 3; }, ErrorClass::internal},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      try {
        row.thrown();
        FAIL("nothing was thrown");
      } catch (...) {
        const worker::Error error = classify(std::current_exception());
        CHECK(to_string(error.error_class) == to_string(row.want));
        CHECK(!error.message.empty());
      }
    }
  }

  TEST_CASE("train/initial: first weights are a function of seed and name and element alone") {
    const Parameter parameter{"h.0.weight", {40, 25}, {Initial::Kind::normal, 0.02}, true, {}};
    const Parameter other{"h.1.weight", {40, 25}, {Initial::Kind::normal, 0.02}, true, {}};
    const auto read = [](std::uint64_t seed, const Parameter& of, std::int64_t first, std::int64_t count) {
      at::Tensor out = at::empty({count}, at::kFloat);
      RandomWeights weights(seed);
      REQUIRE(weights.read(of, first, out).ok());
      return out;
    };
    const at::Tensor all = read(17, parameter, 0, 1000);
    CHECK(read(17, parameter, 333, 401).equal(all.narrow(0, 333, 401)));
    CHECK(!read(18, parameter, 0, 1000).equal(all));
    CHECK(!read(17, other, 0, 1000).equal(all));
    CHECK(std::abs(all.mean().item<double>()) < 0.003);
    CHECK(all.std().item<double>() == doctest::Approx(0.02).epsilon(0.1));
  }
}

}  // namespace saturn::train
