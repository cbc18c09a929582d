// saturn eval: the loss of a stored model over a file, in this process, which opens the training library.

#include <cstdlib>
#include <memory>

#include "cli/command.h"
#include "saturn/base/units.h"
#include "saturn/worker/evaluate.h"
#include "saturn/worker/train_library.h"

namespace saturn::cli {
namespace {

struct EvalArgs {
  std::string model_directory;
  std::string text;
  std::string tokens;
  std::string images;
  std::string logits;
  std::optional<std::int64_t> resize;
  std::optional<std::int64_t> sequence_length;

  void declare(Options& options) {
    options.positional("MODEL_DIR", model_directory, "config.json and safetensors weights");
    options.option("--text", "FILE", text, "text, through the tokenizer beside the model, else as bytes");
    options.option("--tokens", "FILE", tokens, "a token shard, in nanoGPT's or llm.c's form");
    options.option("--images", "PATH", images, "a folder with one folder for each class, or a tar shard");
    options.option("--resize", "PIXELS", resize, "of the shorter side before the centre is cut",
                   "the model's");
    options.option("--sequence-length", "T", sequence_length, "tokens read at once", "the model's positions");
    options.option("--logits", "FILE", logits,
                   "write the logits of the first 8 sequences or 64 images as safetensors");
  }

  Result<int> run(const Context& context) const {
    SATURN_TRY(const worker::EvaluateRequest request, checked());
    SATURN_TRY(const worker::TrainLibrary library, worker::open_train_library());
    if (library.eval_main == nullptr) {
      return Diagnostic{.kind = Kind::machine,
                        .where = library.path,
                        .what = "this training library cannot evaluate",
                        .expected = "the library of the same build as this executable"};
    }
    char* reply = nullptr;
    library.eval_main(to_line(worker::to_json(request)).c_str(), &reply);
    const std::unique_ptr<char, decltype(&std::free)> owned(reply, &std::free);
    SATURN_TRY(const worker::Evaluation result,
               worker::evaluation_from_reply(owned == nullptr ? "" : owned.get()));
    if (result.accuracy) {
      const double top5 = result.accuracy_top5.value_or(1.0);
      if (context.json) {
        print_json({{"loss", result.loss},
                    {"accuracy", *result.accuracy},
                    {"accuracy_top5", top5},
                    {"count", result.count}});
      } else {
        print("loss " + format_number(result.loss, 6) + ", accuracy " + format_number(*result.accuracy, 6) +
              ", top 5 " + format_number(top5, 6) + " over " + std::to_string(result.count) + " images\n");
      }
    } else if (context.json) {
      print_json({{"loss", result.loss}, {"perplexity", result.perplexity}, {"count", result.count}});
    } else {
      print("loss " + format_number(result.loss, 6) + ", perplexity " + format_number(result.perplexity, 6) +
            " over " + std::to_string(result.count) + " tokens in sequences of " +
            std::to_string(result.sequence_length) + "\n");
    }
    return 0;
  }

 private:
  Result<worker::EvaluateRequest> checked() const {
    const int num_named = int{!text.empty()} + int{!tokens.empty()} + int{!images.empty()};
    if (num_named != 1) {
      return Diagnostic{.what = num_named == 0 ? "no file to evaluate on is named"
                                               : "several files to evaluate on are named",
                        .expected = "one of --text FILE, --tokens FILE and --images PATH",
                        .fix = "saturn eval " + model_directory + " --tokens FILE"};
    }
    if (sequence_length && *sequence_length < 1) {
      return Diagnostic{.what = "--sequence-length " + std::to_string(*sequence_length) + " is no length",
                        .expected = "a whole number from 1 on"};
    }
    if (resize && (*resize < 1 || images.empty())) {
      return Diagnostic{.what = "--resize " + std::to_string(*resize) +
                                (images.empty() ? " is set without --images" : " is no size"),
                        .expected = "a whole number from 1 on, of images"};
    }
    return worker::EvaluateRequest{.model_directory = model_directory,
                                   .text = text,
                                   .tokens = tokens,
                                   .images = images,
                                   .resize = resize.value_or(0),
                                   .sequence_length = sequence_length.value_or(0),
                                   .logits = logits};
  }
};

}  // namespace

CommandEntry eval() {
  return {.name = "eval",
          .summary = "Measure a stored model's loss over a file, and write its logits.",
          .example = "saturn eval runs/sweep/jobs/gpt2-1e-3/model --text kjv.txt --sequence-length 128",
          .declare = &make_action<EvalArgs>};
}

}  // namespace saturn::cli
