// Stimuli and responses: .npy files that are right, damaged or lie.
#include <limits>

#include "hostile_files.hpp"

namespace fovea::test {
namespace {

constexpr std::size_t pixels = 16 * 16, frames = 40, neurons = 6;

Words predict() { return {"predict", Lab::get().model(), "--stimulus", "x.npy", "--out", "no.npy"}; }

Words gradients(const std::string& stimulus, const std::string& responses) {
  return {"gradients",   Lab::get().model(), "--stimulus", stimulus,
          "--responses", responses,          "--out",      "no.safetensors"};
}

template <class T = float>
std::string zeros(std::size_t count) {
  return std::string(count * sizeof(T), '\0');
}

std::string movie_dictionary(const std::string& descr = "<f4", bool fortran = false) {
  return npy_dictionary(descr, "(1, 40, 16, 16)", fortran);
}

const std::string& good_movie() {
  static const std::string bytes = npy_bytes(movie_dictionary(), zeros(frames * pixels));
  return bytes;
}

const std::string& good_responses() {
  static const std::string bytes = npy_bytes(npy_dictionary("<f4", "(40, 6)"), zeros(frames * neurons));
  return bytes;
}

HostileCase stimulus(const std::string& name, const std::string& bytes, const std::string& part) {
  return {"stimulus: " + name,
          [=](const std::string& folder) {
            write_bytes(folder + "/x.npy", bytes);
            write_bytes(folder + "/r.npy", good_responses());
          },
          {predict(), gradients("x.npy", "r.npy")},
          part};
}

HostileCase right(const std::string& name, const std::string& descr, const std::string& values,
                  bool fortran = false) {
  HostileCase one = stimulus(name, npy_bytes(movie_dictionary(descr, fortran), values), "");
  one.accepted = true;
  return one;
}

HostileCase responses(const std::string& name, const std::string& bytes, const std::string& part) {
  return {"responses: " + name,
          [=](const std::string& folder) {
            write_bytes(folder + "/x.npy", good_movie());
            write_bytes(folder + "/r.npy", bytes);
          },
          {gradients("x.npy", "r.npy")},
          part};
}

HostileCase shaped(const std::string& shape, std::size_t values, const std::string& part) {
  return stimulus("shape " + shape, npy_bytes(npy_dictionary("<f4", shape), zeros(values)), part);
}

HostileCase typed(const std::string& descr, std::size_t size, const std::string& part) {
  return stimulus("element type " + descr,
                  npy_bytes(movie_dictionary(descr), std::string(frames * pixels * size, '\0')), part);
}

HostileCase with_header(const std::string& name, const std::string& dictionary, const std::string& part) {
  return stimulus(name, npy_bytes(dictionary, zeros(frames * pixels)), part);
}

template <class T>
HostileCase with_value(const std::string& name, const std::string& descr, T value) {
  std::vector<T> values(frames * pixels);
  values[300] = value;
  return stimulus(name, npy_bytes(movie_dictionary(descr), bytes_of(values)), "is not finite");
}

std::vector<HostileCase> damaged() {
  return {
      stimulus("empty", "", "is not a .npy file"),
      stimulus("text", "this is no array", "is not a .npy file"),
      stimulus("a pickle", "\x80\x04\x95\x0a" + std::string(60, '\0'), "is not a .npy file"),
      stimulus("a zip of arrays", "PK\x03\x04" + std::string(60, '\0'), "is not a .npy file"),
      stimulus("cut in the preamble", good_movie().substr(0, 9), "cut off in its preamble"),
      stimulus("cut in the header", good_movie().substr(0, 40), "cut off in its header"),
      stimulus("cut in the values", good_movie().substr(0, 5000), "the file has"),
      stimulus("bytes after the values", good_movie() + "x", "the file has"),
      stimulus("version 9", "\x93NUMPY\x09" + good_movie().substr(7), "version not supported: 9.0"),
      stimulus("header of 4 GB", std::string("\x93NUMPY\x02\0\xff\xff\xff\xff", 12) + "{}",
               "header too long"),
      with_header("no dictionary", "[1, 2]", "expected '{'"),
      with_header("no shape", "{'descr': '<f4', 'fortran_order': False}", "lacks 'shape'"),
      with_header("a key twice", "{'descr': '<f4', 'descr': '<f4'}", "unknown or twice"),
      with_header("an unknown key", "{'descr': '<f4', 'color': 1}", "unknown or twice"),
      with_header("a program for a shape", "{'descr': '<f4', 'shape': __import__('os')}", "expected '('"),
      with_header("a header without end", "{'descr': '<f4", "string without end"),
      with_header("text after the header", movie_dictionary() + "import os", "goes on after its end"),
      with_value<float>("NaN", "<f4", NAN),
      with_value<float>("infinity", "<f4", -INFINITY),
      with_value<double>("beyond float32", "<f8", 1e300),
  };
}

std::vector<HostileCase> lying() {
  return {
      typed("|O", 8, "pickled objects are not read"),
      typed("|b1", 1, "element type not supported"),
      typed("<c8", 8, "element type not supported"),
      typed("<U4", 16, "element type not supported"),
      typed("|V8", 8, "element type not supported"),
      typed("<f3", 3, "element type not supported"),
      typed("?f4", 4, "byte order unknown"),
      with_header("structured elements", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
                  "structured element types"),
      shaped("(40, 16, 16)", frames * pixels, "[x.npy] stimulus must be [B,C,T,H,W] or [C,T,H,W]"),
      shaped("(1, 1, 1, 40, 16, 16)", frames * pixels,
             "[x.npy] stimulus must be [B,C,T,H,W] or [C,T,H,W] with C = 1, H = 16, W = 16: (1, 1, 1, 40"),
      shaped("(1, 1, 1, 1, 40, 16, 16)", frames * pixels, "more than 6 axes"),
      shaped("()", 1, "()"),
      shaped("(2, 20, 16, 16)", frames * pixels, "W = 16: (2, 20, 16, 16)"),
      shaped("(1, 80, 16, 8)", frames * pixels, "W = 16: (1, 80, 16, 8)"),
      shaped("(1, 5, 16, 16)", 5 * pixels, "[x.npy] stimulus (1, 5, 16, 16) is too short"),
      shaped("(1, 0, 16, 16)", 0, "holds no values"),
      shaped("(1, 40, 0, 0)", 0, "holds no values"),
      shaped("(0, 1, 40, 16, 16)", 0, "holds no values"),
      shaped("(1000000000000, 1, 0, 16, 16)", 0, "holds no values"),
      shaped("(1, -40, 16, 16)", frames * pixels, "at least 0"),
      shaped("(1, 40.0, 16, 16)", frames * pixels, "expected ')'"),
      shaped("(1, 4000000000, 16, 16)", frames * pixels, "needs 4096000000000 bytes"),
      shaped("(4611686018427387904, 1, 1, 1)", frames * pixels, "too many elements"),
      shaped("(4294967296, 4294967296, 4294967296, 0)", 0, "too many elements"),
      shaped("(0, 516100000, 51615, 109951)", 0, "too many elements"),
      shaped("(99999999999999999999, 1, 1, 1)", frames * pixels, "extent too large"),
  };
}

std::vector<HostileCase> answers() {
  const auto shape = [](const std::string& text, std::size_t values, const std::string& part) {
    return responses("shape " + text, npy_bytes(npy_dictionary("<f4", text), zeros(values)), part);
  };
  std::vector<float> bad(frames * neurons);
  bad[7] = NAN;
  return {
      responses("NaN", npy_bytes(npy_dictionary("<f4", "(40, 6)"), bytes_of(bad)), "[1, 1] is not finite"),
      responses("pickled", npy_bytes(npy_dictionary("|O", "(40, 6)"), zeros(480)), "pickled objects"),
      shape("(40, 7)", 280, "[r.npy] responses must be [B,T,N] or [T,N] with B = 1"),
      shape("(10, 6)", 60, "T at least 35, N = 6: (10, 6)"),
      shape("(240,)", 240, "(240"),
      shape("(0, 6)", 0, "responses must be [B,T,N] or [T,N] with B = 1, T at least 35, N = 6: (0, 6)"),
      shape("(40, 0)", 0, "N = 6: (40, 0)"),
      shape("(2, 40, 6)", 480, "B = 1, T at least 35, N = 6: (2, 40, 6)"),
  };
}

std::vector<HostileCase> right_arrays() {
  constexpr std::size_t all = frames * pixels;
  return {
      right("int8", "|i1", zeros<std::int8_t>(all)),
      right("big-endian uint16", ">u2", bytes_of(std::vector<std::uint16_t>(all, 515), true)),
      right("big-endian float64", ">f8", bytes_of(std::vector<double>(all, 0.5), true)),
      right("float16", "<f2", zeros<std::uint16_t>(all)),
      right("Fortran order", "<f4", zeros(all), true),
      right("Fortran order, big-endian", ">i4", bytes_of(std::vector<std::int32_t>(all, 3), true), true),
  };
}

}  // namespace

std::vector<HostileCase> array_cases() {
  std::vector<HostileCase> cases;
  for (const auto& table : {damaged(), lying(), answers(), right_arrays()})
    cases.insert(cases.end(), table.begin(), table.end());
  return cases;
}

}  // namespace fovea::test
