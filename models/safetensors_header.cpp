#include "models/safetensors_header.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "fovea/error.hpp"

namespace fovea {
namespace {

using Json = nlohmann::json;

constexpr const char* metadata_key = "__metadata__";

/// Untrusted text for a message: quoted, escaped, cut.
std::string shown(std::string_view value) {
  constexpr std::size_t most = 120;
  const std::string cut(value.substr(0, most));
  return Json(cut).dump(-1, ' ', true, Json::error_handler_t::replace) + (value.size() > most ? "..." : "");
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f64:
      return "F64";
    case DType::i64:
      break;
  }
  return "I64";
}

/// Receives the header event by event and takes nothing but the one structure a header can have; that also
/// bounds its depth:
///   { "__metadata__": { key: text, .. }, name: { "dtype": .., "shape": [..], "data_offsets": [..] }, .. }
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(const std::string& path) : path_(path) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { unexpected(text(value)); }
  bool number_float(number_float_t, const string_t& digits) override { unexpected(digits); }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape)
      push(shape_, value, Shape::max_rank);
    else if (place_ == Place::offsets)
      push(offsets_, value, 2);
    else
      unexpected(text(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      header_.metadata[field_] = value;
    } else if (place_ == Place::entry && field_ == "dtype") {
      dtype_ = parse_dtype(value);
    } else {
      unexpected(shown(value));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::file) {
      place_ = Place::top;
    } else if (place_ == Place::top) {
      place_ = name_ == metadata_key ? Place::metadata : Place::entry;
      fields_.clear();
      dtype_.reset();
      shape_.clear();
      offsets_.clear();
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (place_ == Place::top) {
      name_ = value;
      if (!names_.insert(value).second)
        throw FormatError(path_, text("a name twice in the header: ", shown(value)));
    } else {
      field_ = value;
      if (!fields_.insert(value).second) refuse("a field twice", shown(value));
      if (place_ == Place::entry && value != "dtype" && value != "shape" && value != "data_offsets")
        refuse("fields are dtype, shape and data_offsets", shown(value));
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::entry) finish_entry();
    place_ = place_ == Place::top ? Place::file : Place::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::entry && field_ == "shape")
      place_ = Place::shape;
    else if (place_ == Place::entry && field_ == "data_offsets")
      place_ = Place::offsets;
    else
      unexpected("an array");
    return true;
  }

  bool end_array() override {
    place_ = Place::entry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw FormatError(path_, text("header is not JSON at byte ", position, ": ", error.what()));
  }

 private:
  enum class Place { file, top, metadata, entry, shape, offsets };

  [[noreturn]] void refuse(std::string_view rule, std::string_view value) const {
    throw FormatError(path_, text("header entry ", shown(name_), ", ", rule, ": ", value));
  }

  [[noreturn]] void unexpected(std::string_view value) const {
    if (place_ == Place::file || place_ == Place::top)
      throw FormatError(path_, text("header must be an object of objects, ",
                                    place_ == Place::top ? shown(name_) + " is " : "it is ", value));
    refuse(place_ == Place::metadata ? text("field ", shown(field_), " must be a string")
                                     : text("field ", field_, " has a wrong value"),
           value);
  }

  void push(std::vector<std::uint64_t>& values, std::uint64_t value, std::size_t most) const {
    if (values.size() == most)
      refuse(text("field ", field_, " has more than ", most, " values"), text(value));
    values.push_back(value);
  }

  DType parse_dtype(const std::string& value) const {
    for (const DType dtype : {DType::f32, DType::f64, DType::i64})
      if (value == dtype_name(dtype)) return dtype;
    refuse("field dtype must be F32, F64 or I64", shown(value));
  }

  /// The tensor's shape, and its bytes as the shape and the dtype have them.
  Shape checked_shape() const {
    constexpr std::uint64_t most_extent = std::uint64_t{1} << 62;
    std::vector<std::int64_t> extents;
    for (const std::uint64_t extent : shape_) {
      if (extent > most_extent) refuse("field shape is too large", text(extent));
      extents.push_back(static_cast<std::int64_t>(extent));
    }
    try {
      return Shape(extents);
    } catch (const ShapeError& error) {
      refuse("field shape", error.what());
    }
  }

  void finish_entry() {
    for (const char* field : {"dtype", "shape", "data_offsets"})
      if (!fields_.count(field)) refuse("field missing", field);
    if (!dtype_) refuse("field has a wrong value", "dtype");
    if (offsets_.size() != 2) refuse("field data_offsets must be two numbers", text(offsets_.size()));
    SafetensorsEntry entry{name_, *dtype_, checked_shape(), offsets_[0], offsets_[1]};
    const std::uint64_t elements = static_cast<std::uint64_t>(entry.shape.elements()),
                        size = size_of(entry.dtype);
    // The product of elements and size may not fit into 64 bits, their quotient always does.
    if (entry.end < entry.begin || (entry.end - entry.begin) % size != 0 ||
        (entry.end - entry.begin) / size != elements)
      refuse("data_offsets do not hold dtype x shape",
             text(entry.begin, " to ", entry.end, " for ", dtype_name(entry.dtype), ' ', entry.shape));
    header_.entries.push_back(std::move(entry));
  }

  const std::string& path_;
  SafetensorsHeader header_;
  Place place_ = Place::file;
  std::string name_, field_;
  std::set<std::string> names_, fields_;
  std::optional<DType> dtype_;
  std::vector<std::uint64_t> shape_, offsets_;
};

void check_offsets(std::vector<SafetensorsEntry>& entries, std::uint64_t data_bytes,
                   const std::string& path) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != end)
      throw FormatError(
          path, text("header entry ", shown(entry.name), ", data_offsets leave ",
                     entry.begin > end ? "a gap" : "an overlap", ": begin at ", entry.begin, ", not ", end));
    if (entry.end > data_bytes)
      throw FormatError(
          path, text("header entry ", shown(entry.name), ", data_offsets reach beyond the file: ", entry.end,
                     " of ", data_bytes, " bytes"));
    end = entry.end;
  }
  if (end != data_bytes) throw FormatError(path, text("bytes after the last tensor: ", data_bytes - end));
}

std::string dumped(const std::string& value, const std::string& path) {
  try {
    return Json(value).dump();
  } catch (const Json::type_error&) {
    throw FormatError(path, text("a name or metadata is not UTF-8: ", shown(value)));
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes,
                                           const std::string& path) {
  if (json.empty() || json.front() != '{') throw FormatError(path, "header does not begin with {");
  HeaderReader reader(path);
  Json::sax_parse(json, &reader);
  SafetensorsHeader header = reader.take();
  check_offsets(header.entries, data_bytes, path);
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header, const std::string& path) {
  std::string json = "{";
  const auto comma = [&] { json += json.size() > 1 ? "," : ""; };
  if (!header.metadata.empty()) {
    json += text('"', metadata_key, "\":{");
    const char* between = "";
    for (const auto& [key, value] : header.metadata) {
      json.append(between).append(dumped(key, path)).append(":").append(dumped(value, path));
      between = ",";
    }
    json += '}';
  }
  std::set<std::string> names{metadata_key};
  for (const SafetensorsEntry& entry : header.entries) {
    if (!names.insert(entry.name).second) throw FormatError(path, text("a name twice: ", shown(entry.name)));
    comma();
    json += text(dumped(entry.name, path), ":{\"dtype\":\"", dtype_name(entry.dtype),
                 "\",\"shape\":", Json(entry.shape.vector()).dump(), ",\"data_offsets\":[", entry.begin, ',',
                 entry.end, "]}");
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > most_header_bytes)
    throw FormatError(path, text("header longer than ", most_header_bytes, " bytes: ", json.size()));
  return json;
}

}  // namespace fovea
