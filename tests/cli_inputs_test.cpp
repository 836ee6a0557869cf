// Pupil centres and noise from files: what a model asks for is what the commands take.
#include <doctest/doctest.h>

#include "check.hpp"
#include "cli/inputs.hpp"
#include "data_files.hpp"
#include "disguised_model.hpp"
#include "fovea/klindt_core_readout.hpp"
#include "fovea/npy.hpp"

using namespace fovea;
using namespace fovea::cli;
using namespace fovea::test;

namespace {

bool contains(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

Disguised model_of_images() {
  KlindtCoreReadoutOptions options;
  options.image_size = 6;
  options.image_channels = 1;
  options.kernel_sizes = {3};
  options.num_kernels = {2};
  options.act_fns = {"relu"};
  options.num_neurons = 5;
  return Disguised(make_klindt_core_readout_2d(options, {cpu_device(1), DType::f64}));
}

/// A file with values that f32 cannot hold.
struct File {
  TemporaryFolder folder;
  Tensor content;

  std::string operator()(const Shape& shape, const std::string& name = "p.npy") {
    std::vector<double> values;
    for (std::int64_t i = 0; i < shape.elements(); ++i) values.push_back(0.1 * static_cast<double>(i + 1));
    content = Tensor::from(values, shape, cpu_device(1));
    write_npy(folder / name, content);
    return folder / name;
  }
};

}  // namespace

TEST_CASE("pupil centres have the columns of the shifter and a row per sample") {
  Disguised model = model_of_images();
  File file;
  CHECK_FALSE(open_pupil(model, "", 4).defined());
  const std::string four = file({4, 2});
  CHECK(message_of<ConfigError>([&] { open_pupil(model, four, 4); }) ==
        "[--pupil] KlindtCoreReadout2D has no shifter: " + four);
  model.columns = 2;
  CHECK(open_pupil(model, four, 4).shape() == std::vector<std::int64_t>{4, 2});
  CHECK(message_of<ConfigError>([&] { open_pupil(model, "", 4); }) ==
        "[--pupil] a pupil centre is required by the shifter of KlindtCoreReadout2D: [B,2] with B = 4");
  const auto refused = [&](const Shape& shape, std::int64_t samples) {
    const std::string path = file(shape);
    return message_of<FormatError>([&] { open_pupil(model, path, samples); });
  };
  CHECK(contains(refused({4, 2}, 5), "p.npy] pupil centres must be [B,2] with B = 5: (4, 2)"));
  CHECK(contains(refused({4, 3}, 4), "must be [B,2] with B = 4: (4, 3)"));
  CHECK(contains(refused({8}, 4), "(8,)"));
  CHECK(contains(refused({2}, 4), "(2,)"));
  CHECK(contains(refused({1, 4, 2}, 4), "(1, 4, 2)"));
  CHECK(contains(refused({3}, 1), "(3,)"));
  model.columns = 3;
  CHECK(contains(refused({4, 2}, 4), "must be [B,3] with B = 4: (4, 2)"));
  // A single sample has no need of a batch axis.
  CHECK(open_pupil(model, file({3}), 1).shape() == std::vector<std::int64_t>{1, 3});
  CHECK(open_pupil(model, file({1, 3}), 1).shape() == std::vector<std::int64_t>{1, 3});
  for (const double bad : {std::nan(""), HUGE_VAL, 1e300}) {
    Tensor centres = Tensor::zeros({2, 3}, DType::f64, cpu_device(1));
    centres.data<double>()[4] = bad;
    write_npy(file.folder / "bad.npy", centres);
    CHECK(contains(message_of<FormatError>([&] { open_pupil(model, file.folder / "bad.npy", 2); }),
                   "bad.npy] value [1, 1] is not finite"));
  }
  write_bytes(file.folder / "words.npy", npy_bytes(npy_dictionary("<U4", "(2, 3)"), std::string(96, 'a')));
  CHECK_FALSE(message_of<FormatError>([&] { open_pupil(model, file.folder / "words.npy", 2); }).empty());
  CHECK_FALSE(message_of<FormatError>([&] { open_pupil(model, file.folder / "none.npy", 2); }).empty());
}

TEST_CASE("noise has the shape that the readout draws, and only training takes it") {
  Disguised model = model_of_images();
  File file;
  const std::string path = file({4, 5, 2});
  CHECK_FALSE(open_noise(model, "session", "", 4, true).defined());
  for (const bool training : {true, false})
    CHECK(message_of<ConfigError>([&] { open_noise(model, "session", path, 4, training); }) ==
          "[--noise] KlindtCoreReadout2D has no readout that samples: " + path);
  model.draws = [](std::int64_t batch, const std::string& session) {
    CHECK(session == "session");
    return Shape{batch, 5, 2};
  };
  CHECK(open_noise(model, "session", path, 4, true).shape() == std::vector<std::int64_t>{4, 5, 2});
  CHECK(message_of<ConfigError>([&] { open_noise(model, "session", path, 4, false); }) ==
        "[--noise] only a training pass samples, --train is missing: " + path);
  CHECK(contains(message_of<FormatError>([&] { open_noise(model, "session", path, 3, true); }),
                 "p.npy] noise must be (3, 5, 2) for 3 samples: (4, 5, 2)"));
  for (const Shape& shape : {Shape{1, 5, 2}, Shape{4, 2, 5}, Shape{4, 5}, Shape{20, 2}, Shape{4, 5, 2, 1}}) {
    const std::string other = file(shape);
    CAPTURE(shape);
    CHECK(contains(message_of<FormatError>([&] { open_noise(model, "session", other, 4, true); }),
                   text("noise must be (4, 5, 2) for 4 samples: ", shape)));
  }
  model.draws = [](std::int64_t, const std::string&) { return Shape{1, 5, 2}; };
  CHECK(open_noise(model, "session", file({1, 5, 2}), 4, true).defined());
  CHECK_FALSE(message_of<FormatError>([&] {
                open_noise(model, "session", file({4, 5, 2}), 4, true);
              }).empty());
  Tensor draws = Tensor::zeros({1, 5, 2}, DType::f32, cpu_device(1));
  draws.data<float>()[3] = NAN;
  write_npy(file.folder / "bad.npy", draws);
  CHECK(contains(
      message_of<FormatError>([&] { open_noise(model, "session", file.folder / "bad.npy", 4, true); }),
      "value [0, 1, 1] is not finite"));
}

TEST_CASE("values are read in the precision of the model, images and pupil centres in step") {
  const Placement f64{cpu_device(1), DType::f64}, f32{cpu_device(1), DType::f32};
  File file;
  const StoredArray pupil = open_npy(file({5, 2}));
  CHECK(exact(read_values(pupil, f64), file.content));
  CHECK(exact(read_values(pupil, f32), file.content.to(DType::f32)));
  CHECK(exact(read_entries(pupil, 1, 4, f64), file.content.rows(1, 4)));
  const StoredArray images = open_npy(file({3, 2, 2, 3}, "x.npy"));
  const Tensor some = read_entries(images, 1, 3, f64, {0.5, 2});
  REQUIRE(some.shape() == Shape{2, 2, 3, 2});
  const std::vector<double> from = values(file.content), to = values(some);
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t c = 0; c < 2; ++c)
      for (std::size_t p = 0; p < 6; ++p)
        CHECK(to[(b * 6 + p) * 2 + c] == (from[((b + 1) * 2 + c) * 6 + p] - 0.5) / 2);
  Tensor bad = file.content.clone();
  bad.data<double>()[12 + 7] = NAN;
  write_npy(file.folder / "bad.npy", bad);
  const StoredArray spoilt = open_npy(file.folder / "bad.npy");
  CHECK_NOTHROW(read_entries(spoilt, 0, 1, f64));
  CHECK(contains(message_of<FormatError>([&] { read_entries(spoilt, 0, 3, f64); }),
                 "bad.npy] value [1, 1, 0, 1] is not finite"));
  CHECK(contains(message_of<FormatError>([&] { read_values(spoilt, f64); }), "value [1, 1, 0, 1]"));
  CHECK(open_npy(file({4}, "one.npy")).as_batch().shape() == std::vector<std::int64_t>{1, 4});
}
