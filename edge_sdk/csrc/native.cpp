// Binds edge_core to Python; checks shapes and holds no logic of its own.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <vector>

#include "changes.h"
#include "normalise.h"
#include "planes.h"
#include "vision_input.h"

namespace nb = nanobind;

template <>
struct nanobind::detail::dtype_traits<edge::Half> {
  static constexpr dlpack::dtype value{static_cast<std::uint8_t>(dlpack::dtype_code::Float), 16, 1};
  static constexpr auto name = const_name("float16");
};

using Picture = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Planes = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
// Rows need not be contiguous with one another, as in a crop of a larger picture.
using Rows = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::device::cpu>;
using Pixels = nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::device::cpu>;
template <typename Value>
using Patches = nb::ndarray<Value, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

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

void check(bool good, const char* otherwise) {
  if (!good) throw std::invalid_argument(otherwise);
}

// The pitch of an array whose values are contiguous within each row.
template <typename Array>
std::size_t pitch_of(const Array& array, std::size_t height, std::size_t width, std::size_t channels) {
  bool good = array.shape(0) == height && array.shape(1) == width;
  const std::int64_t row = static_cast<std::int64_t>(width * channels);
  good = good && (width == 1 || array.stride(1) == static_cast<std::int64_t>(channels));
  if (array.ndim() == 3) good = good && array.shape(2) == channels && array.stride(2) == 1;
  good = good && (height == 1 || array.stride(0) >= row);
  check(good, "pictures must have the size of the source, and the values of a row side by side");
  return static_cast<std::size_t>(array.stride(0));
}

void check_patches(const edge::VisionInput& input, const Patches<std::uint8_t>& out) {
  check(out.shape(1) == input.patch_bytes() && out.size() == input.bytes(), "`out` must be [patches, values]");
}

void from_rgb(edge::VisionInput& input, const Pixels& pixels, const Patches<std::uint8_t>& out) {
  const auto height = static_cast<std::size_t>(input.source().height);
  const auto width = static_cast<std::size_t>(input.source().width);
  check_patches(input, out);
  input.from_rgb({pixels.data(), pitch_of(pixels, height, width, 3)}, out.data());
}

void from_nv12(edge::VisionInput& input, const Rows& luma, const Pixels& chroma, edge::YuvMatrix matrix,
               edge::YuvRange range, const Patches<std::uint8_t>& out) {
  const auto height = static_cast<std::size_t>(input.source().height);
  const auto width = static_cast<std::size_t>(input.source().width);
  check_patches(input, out);
  input.from_nv12({luma.data(), pitch_of(luma, height, width, 1), chroma.data(),
                   pitch_of(chroma, (height + 1) / 2, (width + 1) / 2, 2)},
                  edge::yuv_to_rgb(matrix, range), out.data());
}

template <typename Value>
void normalise(const Patches<const std::uint8_t>& patches, const edge::PerChannel& mean, const edge::PerChannel& std,
               const Patches<Value>& out) {
  check(out.shape(0) == patches.shape(0) && out.shape(1) == patches.shape(1), "`out` must have the shape of `patches`");
  check(patches.shape(1) % mean.size() == 0, "a patch must have as many values of each channel");
  edge::normalise(patches.data(), patches.shape(0), patches.shape(1) / mean.size(), mean, std, out.data());
}

void sum_changes(const Patches<const std::uint8_t>& a, const Patches<const std::uint8_t>& b,
                 const Patches<std::uint32_t>& out) {
  check(a.shape(0) == b.shape(0) && a.shape(1) == b.shape(1), "`a` and `b` must have one shape");
  check(out.shape(0) == a.shape(0) && out.shape(1) > 0, "`out` must be [patches, runs]");
  check(a.shape(1) % out.shape(1) == 0, "the values of a patch must divide by the runs");
  edge::sum_changes(a.data(), b.data(), out.size(), a.shape(1) / out.shape(1), out.data());
}

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "The C++ core of the SDK.";
  module.def("write_planes", &write_planes, nb::arg("now").noconvert(), nb::arg("earlier").noconvert(),
             nb::arg("out").noconvert(),
             "Write luma and signed motion planes of `now [h, w]` against `earlier` into `out [1 + n, h, w]`.");

  const nb::call_guard<nb::gil_scoped_release> unlocked;
  nb::enum_<edge::YuvMatrix>(module, "YuvMatrix", "Which luma weights a picture was coded with.")
      .value("bt601", edge::YuvMatrix::bt601)
      .value("bt709", edge::YuvMatrix::bt709);
  nb::enum_<edge::YuvRange>(module, "YuvRange", "Whether black is 16 and white 235, or 0 and 255.")
      .value("limited", edge::YuvRange::limited)
      .value("full", edge::YuvRange::full);
  nb::class_<edge::VisionInput>(module, "VisionInput", "Pictures of one size to patches of another.")
      .def(
          "__init__",
          [](edge::VisionInput* self, int source_width, int source_height, int target_width, int target_height,
             int patch, int threads) {
            new (self)
                edge::VisionInput({source_width, source_height}, {target_width, target_height}, patch, threads);
          },
          nb::arg("source_width"), nb::arg("source_height"), nb::arg("target_width"), nb::arg("target_height"),
          nb::arg("patch"), nb::arg("threads"))
      .def("from_rgb", &from_rgb, nb::arg("pixels").noconvert(), nb::arg("out").noconvert(), unlocked,
           "Write the patches of `pixels [h, w, 3]` into `out [patches, values]`.")
      .def("from_nv12", &from_nv12, nb::arg("luma").noconvert(), nb::arg("chroma").noconvert(), nb::arg("matrix"),
           nb::arg("range"), nb::arg("out").noconvert(), unlocked,
           "Write the patches of `luma [h, w]` and `chroma [ceil(h / 2), ceil(w / 2), 2]` into `out [patches, values]`.");
  const char* about = "Write (x / 255 - mean) / std of `patches [patches, values]` by channel into `out`.";
  module.def("normalise", &normalise<float>, nb::arg("patches").noconvert(), nb::arg("mean"), nb::arg("std"),
             nb::arg("out").noconvert(), unlocked, about);
  module.def("normalise", &normalise<edge::Half>, nb::arg("patches").noconvert(), nb::arg("mean"), nb::arg("std"),
             nb::arg("out").noconvert(), unlocked, about);
  module.def("sum_changes", &sum_changes, nb::arg("a").noconvert(), nb::arg("b").noconvert(),
             nb::arg("out").noconvert(), unlocked,
             "Write sums of |a - b| for `a, b [patches, values]`, each patch in equal runs, into `out [patches, runs]`.");
}
