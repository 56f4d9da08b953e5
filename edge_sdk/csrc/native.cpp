// Binds edge_core to Python; checks shapes and holds no logic of its own.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <vector>

#include "planes.h"

namespace nb = nanobind;

using Picture = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Planes = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

namespace {

bool same_shape(const Picture& a, const Picture& b) { return a.shape(0) == b.shape(0) && a.shape(1) == b.shape(1); }

void write_planes(const Picture& now, const std::vector<Picture>& earlier, const Planes& out) {
  std::vector<const std::uint8_t*> pictures;
  for (const Picture& before : earlier) {
    if (!same_shape(now, before)) throw std::invalid_argument("earlier pictures must have the shape of `now`");
    pictures.push_back(before.data());
  }
  if (out.shape(0) != 1 + earlier.size() || out.shape(1) != now.shape(0) || out.shape(2) != now.shape(1)) {
    throw std::invalid_argument("`out` must be [1 + len(earlier), height, width]");
  }
  edge::write_planes({now.data(), now.size()}, pictures, out.data());
}

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "The C++ core of the SDK.";
  module.def("write_planes", &write_planes, nb::arg("now"), nb::arg("earlier"), nb::arg("out").noconvert(),
             "Write luma and signed motion planes of `now [h, w]` against `earlier` into `out [1 + n, h, w]`.");
}
