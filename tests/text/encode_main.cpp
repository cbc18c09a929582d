// Encodes the texts of one file with a tokenizer, for comparing with the library that made the tokenizer.
//
//     encode_main TOKENIZER THREADS < texts > tokens
//
// Texts come as: u32 number of bytes, bytes. Tokens go out as: u32 number of tokens, int32 each.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "saturn/text/tokenizer.h"

using namespace saturn;

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const auto tokenizer = text::open_tokenizer(argv[1]);
  if (!tokenizer.ok()) {
    for (const Diagnostic& fault : tokenizer.faults())
      std::fprintf(stderr, "%s: %s (expected: %s)\n", fault.where.c_str(), fault.what.c_str(),
                   fault.expected.c_str());
    return 2;
  }
  std::uint32_t size = 0;
  while (std::fread(&size, sizeof(size), 1, stdin) == 1) {
    std::string text(size, '\0');
    if (size != 0 && std::fread(text.data(), 1, size, stdin) != size) return 3;
    text::Tokens tokens;
    const auto done = (*tokenizer)
                          ->encode(text, std::atoi(argv[2]),
                                   [&](std::span<const text::Token> some, std::uint64_t) -> Result<void> {
                                     tokens.insert(tokens.end(), some.begin(), some.end());
                                     return {};
                                   });
    if (!done.ok()) return 4;
    const auto count = static_cast<std::uint32_t>(tokens.size());
    std::fwrite(&count, sizeof(count), 1, stdout);
    std::fwrite(tokens.data(), sizeof(text::Token), tokens.size(), stdout);
  }
  return 0;
}
