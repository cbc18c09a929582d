// A terminal small enough to check what the live views draw: rows of characters, a cursor, and the few escape
// sequences they use. Everything else it is sent is a failure.

#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace saturn::testing {

class TinyTerminal {
 public:
  TinyTerminal(int width, int height) : width_(width), height_(height), rows_(1) {}

  void write(const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      const char c = bytes[at];
      if (c == '\r') {
        column_ = 0;
      } else if (c == '\n') {
        column_ = 0;
        if (++row_ == rows_.size()) rows_.emplace_back();
      } else if (c == '\x1b') {
        REQUIRE(bytes[at + 1] == '[');
        std::size_t end = at + 2;
        while (bytes[end] >= '0' && bytes[end] <= '9') ++end;
        escape(bytes[end], bytes.substr(at + 2, end - at - 2));
        at = end;
      } else {
        put(c);
      }
    }
    // What has scrolled off the top cannot be reached by the cursor.
    if (rows_.size() > static_cast<std::size_t>(height_))
      top_ = rows_.size() - static_cast<std::size_t>(height_);
  }

  /// Everything ever shown, scrolled-off rows included, without trailing spaces and empty rows.
  std::string text() const {
    std::string out;
    for (const std::string& row : rows_) out += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
    while (out.size() > 1 && out[out.size() - 2] == '\n') out.pop_back();
    return out;
  }

  /// Breaks longer rows as a narrower window does; the cursor stays on its text.
  void resize(int width) {
    std::vector<std::string> rows;
    std::size_t row = 0;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      std::string rest = rows_[r];
      const std::size_t wanted = static_cast<std::size_t>(width);
      while (rest.size() > wanted) {
        rows.push_back(rest.substr(0, wanted));
        rest.erase(0, wanted);
      }
      rows.push_back(rest);
      if (r == row_) row = rows.size() - 1;
    }
    rows_ = rows;
    row_ = row;
    width_ = width;
  }

 private:
  void put(char c) {
    REQUIRE(column_ < static_cast<std::size_t>(width_));  // a line wider than the terminal
    std::string& row = rows_[row_];
    if (row.size() <= column_) row.resize(column_ + 1, ' ');
    row[column_++] = c;
  }

  void escape(char command, const std::string& number) {
    if (command == 'A') {
      const std::size_t up = static_cast<std::size_t>(std::stoi(number));
      REQUIRE(up <= row_ - top_);
      row_ -= up;
    } else if (command == 'K') {
      rows_[row_].resize(std::min(rows_[row_].size(), column_));
    } else {
      REQUIRE(command == 'J');
      rows_[row_].resize(std::min(rows_[row_].size(), column_));
      rows_.resize(row_ + 1);
    }
  }

  int width_;
  int height_;
  std::vector<std::string> rows_;
  std::size_t row_ = 0;
  std::size_t column_ = 0;
  std::size_t top_ = 0;
};

}  // namespace saturn::testing
