// The JSON between `saturn eval` and the training library.

#include "saturn/worker/evaluate.h"

#include <iterator>
#include <utility>

namespace saturn::worker {
namespace {

constexpr const char* kRequest = "evaluation request";
constexpr const char* kReply = "evaluation reply";

constexpr std::pair<Kind, const char*> kKinds[] = {
    {Kind::input, "input"}, {Kind::machine, "machine"}, {Kind::disk_full, "disk_full"}};

std::string name_of(Kind kind) {
  for (const auto& [known, name] : kKinds) {
    if (known == kind) return name;
  }
  return "machine";
}

Kind kind_of(const std::string& name) {
  for (const auto& [kind, known] : kKinds) {
    if (known == name) return kind;
  }
  return Kind::machine;
}

}  // namespace

Json to_json(const EvaluateRequest& request) {
  return {{"model_directory", request.model_directory},
          {"text", request.text},
          {"tokens", request.tokens},
          {"images", request.images},
          {"resize", request.resize},
          {"sequence_length", request.sequence_length},
          {"logits", request.logits}};
}

Result<EvaluateRequest> evaluate_request_from_json(const std::string& text) {
  SATURN_TRY(const Json document, parse_json(text, kRequest));
  Diagnostics faults;
  JsonReader reader(document, kRequest, "", faults);
  EvaluateRequest request{.model_directory = reader.string("model_directory"),
                          .text = reader.string("text"),
                          .tokens = reader.string("tokens"),
                          .images = reader.string("images"),
                          .resize = reader.integer("resize"),
                          .sequence_length = reader.integer("sequence_length"),
                          .logits = reader.string("logits")};
  reader.finish();
  if (!faults.empty()) return faults;
  return request;
}

std::string reply_text(const Result<Evaluation>& reply) {
  if (reply.ok()) {
    Json json = {{"loss", reply->loss},
                 {"perplexity", reply->perplexity},
                 {"count", reply->count},
                 {"sequence_length", reply->sequence_length}};
    if (reply->accuracy) json["accuracy"] = *reply->accuracy;
    if (reply->accuracy_top5) json["accuracy_top5"] = *reply->accuracy_top5;
    return to_line(json);
  }
  Json faults = Json::array();
  for (const Diagnostic& fault : reply.faults()) {
    faults.push_back({{"kind", name_of(fault.kind)},
                      {"where", fault.where},
                      {"what", fault.what},
                      {"expected", fault.expected},
                      {"fix", fault.fix}});
  }
  return to_line(Json{{"faults", std::move(faults)}});
}

Result<Evaluation> evaluation_from_reply(const std::string& text) {
  SATURN_TRY(const Json document, parse_json(text, kReply));
  Diagnostics faults;
  JsonReader reader(document, kReply, "", faults);
  if (reader.has("faults")) {
    Diagnostics told;
    const std::size_t count = reader.array("faults").size();
    for (std::size_t i = 0; i < count; ++i) {
      JsonReader fault = reader.child("faults", i);
      told.push_back({.kind = kind_of(fault.string("kind")),
                      .where = fault.string("where"),
                      .what = fault.string("what"),
                      .expected = fault.string("expected"),
                      .fix = fault.string("fix")});
    }
    if (faults.empty() && told.empty()) reader.fault("faults", "the list is empty", "at least one");
    return faults.empty() ? told : faults;
  }
  Evaluation evaluation{.loss = reader.number("loss"),
                        .perplexity = reader.number("perplexity"),
                        .count = reader.integer("count"),
                        .sequence_length = reader.integer("sequence_length")};
  if (reader.has("accuracy")) evaluation.accuracy = reader.number("accuracy");
  if (reader.has("accuracy_top5")) evaluation.accuracy_top5 = reader.number("accuracy_top5");
  reader.finish();
  if (!faults.empty()) return faults;
  return evaluation;
}

}  // namespace saturn::worker
