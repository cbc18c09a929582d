// List scheduling on one node whose devices are interchangeable: the inner loop of every search.

#pragma once

#include <algorithm>

namespace saturn::plan {

/// Starts a job of `width` devices and `time_s` at the width-th smallest of the ascending free times
/// `free_s[0..num_devices)`, on the latest-free devices not after that start; keeps `free_s` ascending.
/// Returns its end. Some order of the jobs placed so gives an optimal schedule of the node: the order of the
/// starts of an optimal one.
inline double place_on(double* free_s, int num_devices, int width, double time_s) {
  const double start_s = free_s[width - 1];
  const double end_s = start_s + time_s;
  int k = width;
  while (k < num_devices && free_s[k] <= start_s) ++k;
  while (k < num_devices && free_s[k] < end_s) {
    free_s[k - width] = free_s[k];
    ++k;
  }
  for (int i = k - width; i < k; ++i) free_s[i] = end_s;
  return end_s;
}

}  // namespace saturn::plan
