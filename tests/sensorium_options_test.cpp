// Options of sessions of static images, held against plain restatements of formats.md 2.2.
#include "sensorium_fixture.hpp"

using namespace sensorium_test;

namespace {

std::vector<std::int64_t> trials_of(const TinyForm& form, const std::string& tier) {
  std::vector<std::int64_t> trials;
  for (std::size_t i = 0; i < form.tiers.size(); ++i)
    if (form.tiers[i] == tier) trials.push_back(static_cast<std::int64_t>(i));
  return trials;
}

/// A plane (H,W), enlarged or reduced as formats.md says, sample by sample.
std::vector<double> rescaled(const std::vector<double>& plane, int height, int width, double scale) {
  const auto size = [&](int n) {
    const double exact = n * scale, below = std::floor(exact), rest = exact - below;
    const double whole = rest > 0.5 || (rest == 0.5 && std::fmod(below, 2) == 1) ? below + 1 : below;
    return std::max(1, static_cast<int>(whole));
  };
  const auto mirrored = [](int i, int n) {
    while (n > 1 && (i < 0 || i >= n)) i = i < 0 ? -i : 2 * (n - 1) - i;
    return n == 1 ? 0 : i;
  };
  const int rows = size(height), columns = size(width);
  const auto [least, most] = std::minmax_element(plane.begin(), plane.end());
  std::vector<double> result;
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x) {
      const double v = (y + 0.5) * height / rows - 0.5, u = (x + 0.5) * width / columns - 0.5;
      double sum = 0;
      for (int dy = 0; dy < 2; ++dy)
        for (int dx = 0; dx < 2; ++dx) {
          const int j = static_cast<int>(std::floor(v)) + dy, i = static_cast<int>(std::floor(u)) + dx;
          const double weight = (1 - std::abs(v - j)) * (1 - std::abs(u - i));
          sum += weight * plane[static_cast<std::size_t>(mirrored(j, height) * width + mirrored(i, width))];
        }
      result.push_back(std::clamp(sum, *least, *most));
    }
  return result;
}

/// Plane `c` of an image (H,W,C).
std::vector<double> plane_of(const std::vector<double>& image, const Shape& shape, std::int64_t c) {
  std::vector<double> plane;
  for (std::int64_t p = 0; p < shape[1] * shape[2]; ++p)
    plane.push_back(image[static_cast<std::size_t>(p * shape[0] + c)]);
  return plane;
}

std::vector<double> each(std::vector<double> values,
                         const std::function<double(double, std::size_t)>& change) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = change(values[i], i);
  return values;
}

std::vector<double> normalized_image(const TinySession& tiny, std::size_t trial) {
  return each(tiny.images[trial],
              [&](double x, std::size_t) { return (x - tiny.image_mean) / tiny.image_std; });
}

std::vector<double> constant(double value, std::int64_t count) {
  return std::vector<double>(static_cast<std::size_t>(count), value);
}

std::vector<double> picked(const std::vector<double>& values, const std::vector<std::int64_t>& which) {
  std::vector<double> result;
  for (const std::int64_t i : which) result.push_back(values[static_cast<std::size_t>(i)]);
  return result;
}

}  // namespace

TEST_CASE("defaults: images and pupil are z-scored, responses divided, no behaviour") {
  const TinySession tiny;
  const Written written(tiny.files);
  const StaticSession session = written.open();
  CHECK(session.key() == "tiny");
  CHECK(session.path() == written.options.paths[0]);
  CHECK(session.image_shape() == Shape{1, 3, 4});
  CHECK(session.n_neurons() == 5);
  CHECK(session.has_pupil_center());
  CHECK_FALSE(session.has_behavior());
  CHECK(session.warnings().empty());
  CHECK(session.neuron_index() == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  CHECK(session.unit_ids() == std::vector<std::string>{"11", "14", "17", "20", "23"});
  for (const Tier tier : all_tiers) CHECK(session.trials(tier) == trials_of(tiny.form, to_string(tier)));
  CHECK(session.trials(Tier::final_test).empty());
  CHECK(session.trials(Tier::train).size() == 6);
  for (std::size_t i = 0; i < tiny.form.tiers.size(); ++i) {
    const StaticTrial trial = trial_of(session, static_cast<std::int64_t>(i));
    CHECK(close(normalized_image(tiny, i), trial.image));
    CHECK(close(each(tiny.responses[i], [&](double x, std::size_t n) { return x / tiny.response_std[n]; }),
                trial.responses));
    CHECK(close(each(tiny.pupil[i],
                     [&](double x, std::size_t n) { return (x - tiny.pupil_mean[n]) / tiny.pupil_std[n]; }),
                trial.pupil_center));
    CHECK(trial.behavior.empty());
    CHECK(session.image_id(static_cast<std::int64_t>(i)) == std::to_string(tiny.image_ids[i]));
  }
  CHECK(close(each(tiny.response_mean, [&](double x, std::size_t n) { return x / tiny.response_std[n]; }),
              session.mean_activity()));
  const auto images = session.stimulus_normalization();
  REQUIRE(images);
  CHECK(images->mean == tiny.image_mean);
  CHECK(images->deviation == tiny.image_std);
}

TEST_CASE("planes come in order: image, pupil size, derivative, speed, pupil x, pupil y") {
  const TinySession tiny;
  Written written(tiny.files);
  written.options.include_behavior = true;
  written.options.add_eye_pos_as_channels = true;
  const StaticSession session = written.open();
  CHECK(session.image_shape() == Shape{6, 3, 4});
  CHECK_FALSE(session.stimulus_normalization());
  const StaticTrial trial = trial_of(session, 3);
  const auto behavior =
      each(tiny.behavior[3], [&](double x, std::size_t i) { return x / tiny.behavior_std[i]; });
  CHECK(close(behavior, trial.behavior));
  CHECK(close(normalized_image(tiny, 3), plane_of(trial.image, session.image_shape(), 0)));
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(close(constant(behavior[i], 12),
                plane_of(trial.image, session.image_shape(), static_cast<std::int64_t>(i) + 1)));
  for (std::size_t i = 0; i < 2; ++i)
    CHECK(close(constant(trial.pupil_center[i], 12),
                plane_of(trial.image, session.image_shape(), static_cast<std::int64_t>(i) + 4)));
  written.options.add_behavior_as_channels = false;
  CHECK(written.open().image_shape() == Shape{3, 3, 4});
  written.options.add_eye_pos_as_channels = false;
  CHECK(written.open().image_shape() == Shape{1, 3, 4});
  CHECK(close(behavior, trial_of(written.open(), 3).behavior));
}

TEST_CASE("one channel is selected after the planes are added") {
  TinyForm form;
  form.image = {2, 3, 4};
  const TinySession tiny(form);
  Written written(tiny.files);
  written.options.add_eye_pos_as_channels = true;
  const StaticSession all = written.open();
  const StaticTrial whole = trial_of(all, 1);
  CHECK(all.image_shape() == Shape{4, 3, 4});
  for (std::int64_t c = 0; c < 4; ++c) {
    written.options.select_input_channel = c;
    const StaticSession one = written.open();
    CHECK(one.image_shape() == Shape{1, 3, 4});
    CHECK(close(plane_of(whole.image, all.image_shape(), c), trial_of(one, 1).image));
  }
  written.options.select_input_channel = 4;
  CHECK(mentions(error_of([&] { written.open(); }), "select_input_channel: images have 4 channels: 4"));
  // Channel 0 is what the reference takes for no selection where there is behaviour.
  written.options.select_input_channel = 0;
  written.options.include_behavior = true;
  CHECK(close(plane_of(whole.image, all.image_shape(), 0), trial_of(written.open(), 1).image));
}

TEST_CASE("rescaling, up and down, of every plane") {
  TinyForm form;
  form.image = {2, 7, 10};
  const TinySession tiny(form);
  Written written(tiny.files);
  written.options.add_eye_pos_as_channels = true;
  written.options.normalize = false;
  // 7 x 0.5 = 3.5 and 10 x 0.25 = 2.5 are halves; 0.01 leaves one pixel; 1.5 and 2.5 enlarge.
  const std::map<double, std::pair<int, int>> sizes{{0.25, {2, 2}}, {0.5, {4, 5}}, {0.35, {2, 4}},
                                                    {0.01, {1, 1}}, {1, {7, 10}},  {1.5, {10, 15}},
                                                    {2.5, {18, 25}}};
  for (const auto& [scale, size] : sizes) {
    const auto& shown_scale = scale;
    CAPTURE(shown_scale);
    written.options.scale = scale;
    const StaticSession session = written.open();
    CHECK(session.image_shape() == Shape{4, size.first, size.second});
    const StaticTrial trial = trial_of(session, 5);
    for (std::size_t c = 0; c < 2; ++c) {
      const auto first = tiny.images[5].begin() + static_cast<std::ptrdiff_t>(70 * c);
      CHECK(close(rescaled({first, first + 70}, 7, 10, scale),
                  plane_of(trial.image, session.image_shape(), static_cast<std::int64_t>(c))));
      CHECK(close(constant(tiny.pupil[5][c], size.first * size.second),
                  plane_of(trial.image, session.image_shape(), static_cast<std::int64_t>(c) + 2)));
    }
  }
  // An image of one row or column has no neighbours to mirror.
  form.image = {1, 1, 5};
  const TinySession thin(form);
  Written line(thin.files);
  line.options.normalize = false;
  line.options.scale = 3;
  CHECK(close(rescaled(thin.images[0], 1, 5, 3), trial_of(line.open(), 0).image));
}

TEST_CASE("neuron_ids keep their order and their duplicates") {
  const TinySession tiny;
  Written written(tiny.files);
  written.options.neuron_ids = {std::vector<std::int64_t>{20, 11, 20, 14}};
  const StaticSession session = written.open();
  const std::vector<std::int64_t> chosen{3, 0, 3, 1};
  CHECK(session.neuron_index() == chosen);
  CHECK(session.unit_ids() == std::vector<std::string>{"20", "11", "20", "14"});
  CHECK(session.n_neurons() == 4);
  const auto all = each(tiny.responses[2], [&](double x, std::size_t n) { return x / tiny.response_std[n]; });
  CHECK(close(picked(all, chosen), trial_of(session, 2).responses));
  const auto means =
      each(tiny.response_mean, [&](double x, std::size_t n) { return x / tiny.response_std[n]; });
  CHECK(close(picked(means, chosen), session.mean_activity()));
  written.options.neuron_ids = {std::nullopt};
  CHECK(written.open().n_neurons() == 5);
  written.options.neuron_ids = {std::vector<std::int64_t>{20, 12}};
  CHECK(mentions(error_of([&] { written.open(); }), "neuron_ids: session tiny has no unit id 12"));
}

TEST_CASE("areas and layers together") {
  const TinySession tiny;  // V1 LM V1 LM V1, L4 L2/3 L2/3 L4 L2/3
  Written written(tiny.files);
  const auto chosen = [&](std::vector<std::string> areas, std::vector<std::string> layers) {
    written.options.areas = std::move(areas);
    written.options.layers = std::move(layers);
    return written.open().neuron_index();
  };
  using Index = std::vector<std::int64_t>;
  CHECK(chosen({"V1"}, {}) == Index{0, 2, 4});
  CHECK(chosen({}, {"L4"}) == Index{0, 3});
  CHECK(chosen({"V1"}, {"L2/3"}) == Index{2, 4});
  CHECK(chosen({"LM", "V1"}, {"L4", "none"}) == Index{0, 3});
  CHECK(
      mentions(error_of([&] { chosen({"AL"}, {}); }), "session tiny has 5 neurons, of which none is chosen"));
}

TEST_CASE("neurons and training images are drawn with base seed times count") {
  TinyForm form;
  form.neurons = 10;
  const TinySession tiny(form);
  Written written(tiny.files);
  written.options.neuron_n = 2;
  written.options.neuron_base_seed = 21;
  written.options.exclude_neuron_n = 3;
  // numpy.random.RandomState(42).permutation(10) begins with 8 1 5 0 7; choice without replacement is its
  // beginning.
  CHECK(written.open().neuron_index() == std::vector<std::int64_t>{0, 7});
  written.options.exclude_neuron_n = 8;
  CHECK(written.open().n_neurons() == 2);
  written.options.exclude_neuron_n = 9;
  CHECK(mentions(error_of([&] { written.open(); }), "exclude_neuron_n + neuron_n is 11"));

  form.tiers = {"test"};
  form.tiers.resize(11, "train");
  form.tiers.push_back("validation");
  Written images(TinySession(form).files);
  images.options.image_n = 3;
  images.options.image_base_seed = 14;
  CHECK(images.open().trials(Tier::train) == std::vector<std::int64_t>{9, 2, 6});  // 8 1 5 of 1 .. 10
  CHECK(images.open().trials(Tier::test) == std::vector<std::int64_t>{0});
  images.options.image_n = 11;
  CHECK(mentions(error_of([&] { images.open(); }), "image_n: session tiny has 10 training images: 11"));
}

TEST_CASE("image_ids choose training trials, the first of each image") {
  TinySession tiny;  // train: 0 1 3 5 6 9; image ids 1000 + trial % 8
  Written written(tiny.files);
  written.options.image_ids = {std::vector<std::int64_t>{1006, 1001, 1000}};
  const StaticSession session = written.open();
  CHECK(session.trials(Tier::train) == std::vector<std::int64_t>{6, 1, 0});
  CHECK(session.trials(Tier::test) == std::vector<std::int64_t>{2, 8});
  CHECK(session.trials(Tier::validation) == std::vector<std::int64_t>{4});
  written.options.image_ids = {std::vector<std::int64_t>{1099}};
  CHECK(mentions(error_of([&] { written.open(); }), "image_ids: session tiny has no image 1099"));
  written.options.image_ids = {std::vector<std::int64_t>{1002}};
  CHECK(mentions(error_of([&] { written.open(); }),
                 "image 1002 of session tiny must be of the tier train: test"));
}

TEST_CASE("image_condition keeps classes in all tiers") {
  TinySession tiny;
  tiny.files["meta/trials/image_class.npy"] =
      npy_words({"nat", "art", "nat", "nat", "art", "art", "gabor", "nat", "art", "nat"});
  Written written(tiny.files);
  const auto chosen = [&](std::vector<std::string> classes, Tier tier) {
    written.options.image_condition = std::move(classes);
    return written.open().trials(tier);
  };
  using Index = std::vector<std::int64_t>;
  CHECK(chosen({}, Tier::train) == Index{0, 1, 3, 5, 6, 9});
  CHECK(chosen({"nat"}, Tier::train) == Index{0, 3, 9});
  CHECK(chosen({"nat"}, Tier::test) == Index{2});
  CHECK(chosen({"nat"}, Tier::validation) == Index{});
  CHECK(chosen({"gabor", "art"}, Tier::train) == Index{1, 5, 6});
  CHECK(chosen({"art"}, Tier::validation) == Index{4});
  // The class of the projector whose ids are used.
  Files files = tiny.files;
  for (const char* name : {"image_id", "image_class"}) {
    files[text("meta/trials/frame_", name, ".npy")] = files.at(text("meta/trials/", name, ".npy"));
    files.erase(text("meta/trials/", name, ".npy"));
  }
  Written frames(files);
  frames.options.image_condition = {"nat"};
  CHECK(frames.open().trials(Tier::train) == Index{0, 3, 9});
  tiny.files.erase("meta/trials/image_class.npy");
  Written without(tiny.files);
  without.options.image_condition = {"nat"};
  CHECK(mentions(error_of([&] { without.open(); }), "session tiny: image_condition needs meta/trials/"));
}

TEST_CASE("fields that are excluded keep their values") {
  const TinySession tiny;
  Written written(tiny.files);
  written.options.include_behavior = true;
  written.options.add_behavior_as_channels = false;
  const StaticTrial all = trial_of(written.open(), 1);
  const std::vector<std::string> fields{"images", "responses", "behavior", "pupil_center"};
  for (const std::string& field : fields) {
    CAPTURE(field);
    written.options.exclude = {field};
    const StaticTrial trial = trial_of(written.open(), 1);
    CHECK(trial.image == (field == "images" ? tiny.images[1] : all.image));
    CHECK(trial.responses == (field == "responses" ? tiny.responses[1] : all.responses));
    CHECK(trial.behavior == (field == "behavior" ? tiny.behavior[1] : all.behavior));
    CHECK(trial.pupil_center == (field == "pupil_center" ? tiny.pupil[1] : all.pupil_center));
    CHECK(written.open().stimulus_normalization().has_value() == (field != "images"));
  }
  written.options.exclude = fields;
  const StaticTrial raw = trial_of(written.open(), 1);
  written.options.exclude = {};
  written.options.normalize = false;
  const StaticTrial unnormalized = trial_of(written.open(), 1);
  CHECK(raw.image == tiny.images[1]);
  CHECK(raw.responses == unnormalized.responses);
  CHECK(raw.behavior == unnormalized.behavior);
  CHECK(raw.pupil_center == unnormalized.pupil_center);
  CHECK(raw.image == unnormalized.image);
}

TEST_CASE("source grids are the first two columns of cell_motor_coordinates of the chosen neurons") {
  TinySession tiny;
  std::vector<double> places;
  for (int i = 0; i < 15; ++i) places.push_back(i * 7 - 40.5);
  tiny.files["meta/neurons/cell_motor_coordinates.npy"] = npy(places, {5, 3});
  Written written(tiny.files);
  written.options.neuron_ids = {std::vector<std::int64_t>{23, 11}};
  CHECK(written.open().cell_motor_coordinates(2) ==
        std::vector<double>{places[12], places[13], places[0], places[1]});
  tiny.files.erase("meta/neurons/cell_motor_coordinates.npy");
  const std::string message = error_of([&] { Written(tiny.files).open().cell_motor_coordinates(2); });
  CHECK(mentions(message, "session tiny"));
  CHECK(mentions(message, "meta/neurons/cell_motor_coordinates.npy is missing"));
}
