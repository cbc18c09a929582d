// An artefact named on a command line whose kind is only known from its header.

#pragma once

#include <string>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::cli {

struct Artefact {
  std::string kind;  ///< "saturn.plan", "saturn.profile"
  Json document;
};

/// Errors: Kind::input where the file cannot be read, is not JSON, or has no header of ours.
inline Result<Artefact> open_artefact(const std::string& path) {
  SATURN_TRY(const std::string text, read_whole(path));
  SATURN_TRY(Json document, parse_json(text, path));
  const bool has_format =
      document.is_object() && document.contains("format") && document["format"].is_string();
  const std::string format = has_format ? document["format"].get<std::string>() : "";
  const std::string kind = format.substr(0, format.find('/'));
  if (kind != "saturn.plan" && kind != "saturn.profile") {
    return Diagnostic{.where = path + (has_format ? "#/format" : ""),
                      .what = has_format ? in_quotes(format) + " is neither a plan nor a profile"
                                         : "this is no artefact of saturn: it has no \"format\"",
                      .expected = "saturn.plan or saturn.profile"};
  }
  return Artefact{kind, std::move(document)};
}

}  // namespace saturn::cli
