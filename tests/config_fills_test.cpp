// What users paste from the parameter tables: values as Python writes them.
#include <doctest/doctest.h>

#include "data_files.hpp"
#include "fovea/model.hpp"
#include "training/run_config.hpp"
#include "training/yaml.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

bool contains(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

std::string refusal(const std::string& yaml) {
  return message_of<FormatError>([&] { parse_yaml("test", yaml); });
}

struct Fill {
  const char *text, *json;
};

/// A value in every place where one can stand.
void check_fill(const Fill& fill) {
  CAPTURE(fill.text);
  const Json expected = Json::parse(fill.json);
  const std::string word = fill.text;
  CHECK(parse_yaml("test", word) == expected);
  CHECK(parse_yaml("test", "a: " + word + "  # as in the table\nb: 1\n") == Json{{"a", expected}, {"b", 1}});
  CHECK(parse_yaml("test", "a:\n  - " + word + "\n  - x\n")["a"] == Json::array({expected, "x"}));
  CHECK(parse_yaml("test", "{a: " + word + ", b: 2}") == Json{{"a", expected}, {"b", 2}});
  CHECK(parse_yaml("test", "{b: 2, a: " + word + "}") == Json{{"b", 2}, {"a", expected}});
  CHECK(parse_yaml("test", "[x, " + word + ", 3]") == Json::array({"x", expected, 3}));
  Json document = Json::object();
  apply_override(document, "model.key=" + word);
  CHECK(document["model"]["key"] == expected);
  CHECK(parse_yaml("test", write_yaml(document)) == document);
}

}  // namespace

TEST_CASE("the examples of the parameter tables are taken as they stand") {
  for (const Fill& fill :
       std::vector<Fill>{{"108", "108"},
                         {"[[7,7]]", "[[7, 7]]"},
                         {"[[1,7,7]]", "[[1, 7, 7]]"},
                         {"[16]", "[16]"},
                         {"['relu']", R"(["relu"])"},
                         {"[1e-4,1e-4,1e-4,0.2]", "[1e-4, 1e-4, 1e-4, 0.2]"},
                         {"[[0.0, 0.1], [0.0, 0.05], [0.0, 0.05]]", "[[0.0, 0.1], [0.0, 0.05], [0.0, 0.05]]"},
                         {"\"norm\"", "\"norm\""},
                         {"\"abs\"", "\"abs\""},
                         {"1e-4", "1e-4"},
                         {"40.0", "40.0"},
                         {"True", "true"},
                         {"False", "false"},
                         {"None", "null"},
                         {"nn.PoissonNLLLoss(log_input = False)", "\"nn.PoissonNLLLoss(log_input = False)\""},
                         {"CorrelationLoss2D()", "\"CorrelationLoss2D()\""},
                         {"(2, 150, 18, 16)", "[2, 150, 18, 16]"},
                         {"[21, 11]", "[21, 11]"},
                         {"{\"session1\": 41}", R"({"session1": 41})"},
                         {"{\"input_shape\": (1, 36, 64)}", R"({"input_shape": [1, 36, 64]})"}})
    check_fill(fill);
}

TEST_CASE("tuples are lists, nested ones too, and text in quotes stays text") {
  for (const Fill& fill :
       std::vector<Fill>{{"(1,2)", "[1, 2]"},
                         {"( 1 , 2 )", "[1, 2]"},
                         {"(1,)", "[1]"},
                         {"()", "[]"},
                         {"(1, 2,)", "[1, 2]"},
                         {"((1, 2), (3, 4))", "[[1, 2], [3, 4]]"},
                         {"((7, 7),)", "[[7, 7]]"},
                         {"(1, (2, (3, 4)), ())", "[1, [2, [3, 4]], []]"},
                         {"[(1, 2), (3, 4)]", "[[1, 2], [3, 4]]"},
                         {"[((1, 2), 3), 4]", "[[[1, 2], 3], 4]"},
                         {"(None, True, False, 1e-4, -2, relu)", R"([null, true, false, 1e-4, -2, "relu"])"},
                         {"'(1, 2)'", "\"(1, 2)\""},
                         {"\"(1, 2)\"", "\"(1, 2)\""},
                         {"'None'", R"("None")"},
                         {"\"None\"", R"("None")"},
                         {"'True'", R"("True")"},
                         {"\"(1, 2\"", "\"(1, 2\""},
                         {"f(x)", "\"f(x)\""},
                         {"(a) first choice", "\"(a) first choice\""},
                         {"{k: (1, 2), l: [(3, 4)]}", R"({"k": [1, 2], "l": [[3, 4]]})"}})
    check_fill(fill);
  // With quotes or brackets inside, where no brackets around it cut it into pieces.
  CHECK(parse_yaml("test", "a: ('relu', \"None\", 'b, (c')") ==
        Json::parse(R"({"a": ["relu", "None", "b, (c"]})"));
  CHECK(parse_yaml("test", "a: ([1, 2], don't)") == Json::parse(R"({"a": [[1, 2], "don't"]})"));
  CHECK(parse_yaml("test", "a: (1,\n  2,\n  3)\nb: 4") == Json::parse(R"({"a": [1, 2, 3], "b": 4})"));
  CHECK(parse_yaml("test", "a: &t (1, 2)\nb: *t\nc: [&u (3, 4), *u]") ==
        Json::parse(R"({"a": [1, 2], "b": [1, 2], "c": [[3, 4], [3, 4]]})"));
}

TEST_CASE("half-open and broken tuples are refused with their line") {
  for (const char* open :
       {"(1, 2", "((1, 2)", "(", "(1, 2]x", "('a, 2)", "[(1, 2]", "[((1, 2), 3]", "{a: (1, 2}",
        "{a: (1, b: 2}", "{a: (1, 2, b: 3)}", "[(1, *a)]", "[(1, {b: 2})]"}) {
    CAPTURE(open);
    CHECK_FALSE(refusal(open).empty());
  }
  const std::string open = refusal("b: 1\na: (1, 2\nc: 3\n");
  CHECK(contains(open, "[test] line 2: a tuple is left open"));
  CHECK(contains(open, "(1, 2"));
  CHECK(contains(refusal("a: [(1, 2]\n"), "line 1: a tuple is left open"));
  CHECK(contains(refusal("a: {b: (1, 2}\n"), "line 1: a tuple is left open"));
  CHECK(contains(refusal("a:\n  - (1\n  - 2)\n"), "line 2: a tuple is left open"));
  CHECK(contains(refusal("a: (1 2, 3, (4, 5)"), "left open"));
  CHECK(contains(refusal("a: (1,, 2)"), "an element is missing"));
  CHECK(contains(refusal("a: (, 2)"), "an element is missing"));
  CHECK(contains(refusal("a: (1, 2]"), "a tuple is left open"));
  CHECK(contains(refusal("a: ((1, 2) 3, 4)"), "a comma is missing"));
  CHECK(contains(refusal("a: (5)"), "a tuple of one element ends with a comma, a text has quotes"));
  CHECK(contains(refusal("a: [(1, 2) x]"), "text after a tuple"));
  CHECK(contains(refusal("a: (f(x), 2)"), "inside a word"));
  CHECK(contains(message_of<FormatError>([] {
                   Json document;
                   apply_override(document, "model.in_shape=(1, 2");
                 }),
                 "[model.in_shape] line 1: a tuple is left open"));
}

TEST_CASE("tuples are bounded in depth and number like other lists") {
  const auto nested = [](std::size_t depth) {
    std::string text = "1";
    for (std::size_t i = 0; i < depth; ++i) text = '(' + text + ",)";
    return text;
  };
  CHECK_NOTHROW(parse_yaml("test", nested(32)));
  CHECK(contains(refusal(nested(33)), "nested deeper than 32 levels"));
  CHECK(contains(refusal("a: " + nested(32)), "nested deeper than 32 levels"));
  CHECK(contains(refusal(nested(20000)), "nested deeper than 32 levels"));
  CHECK_FALSE(refusal(std::string(500000, '(')).empty());
  const auto many = [](int count) {
    std::string text = "(0";
    for (int i = 1; i < count; ++i) text += ",1";
    return text + ")";
  };
  CHECK(parse_yaml("test", many(99000)).size() == 99000);
  CHECK(contains(refusal(many(100001)), "more than 100000 values"));
  CHECK(contains(refusal("[" + many(100001) + "]"), "more than 100000 values"));
  CHECK(contains(refusal("a: &a " + many(40000) + "\nb: [*a, *a]"), "more than 100000 values"));
}

TEST_CASE("a model of the table's examples, as a file and as overrides") {
  const std::string expected =
      R"({"class":"CoreReadout","in_shape":[2,150,18,16],"hidden_channels":[16,16],"temporal_kernel_sizes":[21,11],)"
      R"("spatial_kernel_sizes":[11,5],"n_neurons_dict":{"session1":41},"maxpool_every_n_layers":null})";
  const Json section = parse_yaml("test", R"(
class: CoreReadout
in_shape: (2, 150, 18, 16)
hidden_channels: [16, 16]
temporal_kernel_sizes: (21, 11)
spatial_kernel_sizes: [11, 5]
n_neurons_dict: {"session1": 41}
maxpool_every_n_layers: None
)");
  CHECK(section.dump() == expected);
  CHECK(make_model(section.dump(), {cpu_device(1), DType::f32})->in_shape() == Shape{2, 150, 18, 16});
  Json document = Json::object();
  for (const char* one :
       {"model.class=CoreReadout", "model.in_shape=(2, 150, 18, 16)", "model.hidden_channels=[16, 16]",
        "model.temporal_kernel_sizes=(21, 11)", "model.spatial_kernel_sizes=[11, 5]",
        "model.n_neurons_dict={\"session1\": 41}", "model.maxpool_every_n_layers=None"})
    apply_override(document, one);
  CHECK(document["model"].dump() == expected);
}
