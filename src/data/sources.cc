#include "deepseek_train/data/sources.h"

#include <algorithm>
#include <optional>

#include "deepseek_train/core/error.h"
#include "src/data/csv.h"
#include "src/data/field_template.h"
#include "src/data/json_record.h"
#include "src/data/text_file.h"

namespace deepseek_train::data {
namespace {

using Visit = std::function<void(const TextRecord&)>;

// Prompt and answer templates, parsed once for all files.
struct Templates {
  FieldTemplate prompt;
  FieldTemplate answer;

  std::vector<Segment> render(const FieldLookup& lookup) const {
    std::vector<Segment> segments;
    std::string question = prompt.render(lookup);
    if (!question.empty()) segments.push_back({std::move(question), false});
    segments.push_back({answer.render(lookup), true});
    return segments;
  }
};

std::optional<Templates> parse_templates(const SourceOptions& options) {
  DST_CHECK(options.prompt_template.empty() || !options.answer_template.empty(),
            "a prompt template without an answer template: nothing would be trained; give both");
  if (options.answer_template.empty()) return std::nullopt;
  return Templates{FieldTemplate(options.prompt_template), FieldTemplate(options.answer_template)};
}

// What every record must have, whatever it came from: something to learn.
void visit_checked(TextRecord record, const Visit& visit) {
  const bool learns =
      std::any_of(record.segments.begin(), record.segments.end(),
                  [](const Segment& segment) { return segment.loss && !segment.text.empty(); });
  DST_CHECK(learns, record.place,
            ": the answer is empty, there is nothing to train on; fill it or remove the record");
  visit(record);
}

void read_paragraphs(const TextFile& file, const Visit& visit) {
  std::string paragraph;
  int64_t first_line = 0;
  auto flush = [&] {
    if (paragraph.empty()) return;
    visit_checked({{{std::move(paragraph), true}}, place_of(file.path(), first_line)}, visit);
    paragraph.clear();
  };
  LineReader lines(file.text());
  while (auto line = lines.next()) {
    if (is_blank(line->text)) {
      flush();
      continue;
    }
    if (paragraph.empty())
      first_line = line->number;
    else
      paragraph += '\n';
    paragraph += line->text;
  }
  flush();
}

void read_text_file(const TextFile& file, TextUnit unit, const Visit& visit) {
  if (unit == TextUnit::kParagraph) return read_paragraphs(file, visit);
  DST_CHECK(!is_blank(file.text()), file.path(), ": the file is empty; remove it from the sources");
  visit_checked({{{std::string(file.text()), true}}, place_of(file.path(), 1)}, visit);
}

void read_jsonl_file(const TextFile& file, const std::optional<Templates>& templates,
                     const RenderChat& render_chat, const Visit& visit) {
  std::optional<JsonShape> shape;
  LineReader lines(file.text());
  while (auto line = lines.next()) {
    if (is_blank(line->text)) continue;
    const std::string place = place_of(file.path(), line->number);
    const nlohmann::json object = parse_json_object(place, line->text);
    if (!templates && !shape) shape = detect_shape(place, object);
    auto segments = templates ? templates->render(json_fields(place, object))
                              : read_shape(place, object, *shape, render_chat);
    visit_checked({std::move(segments), place}, visit);
  }
}

std::vector<std::string> read_header(CsvReader& reader, const std::string& path) {
  auto header = reader.next();
  DST_CHECK(header.has_value(), path, ": the file is empty, wanted a header row");
  auto names = header->fields;
  std::sort(names.begin(), names.end());
  auto twice = std::adjacent_find(names.begin(), names.end());
  DST_CHECK(twice == names.end(), place_of(path, header->line), ": two columns are named \"",
            twice == names.end() ? "" : *twice, "\"; rename one");
  return header->fields;
}

void read_csv_file(const TextFile& file, const std::optional<Templates>& templates,
                   const Visit& visit) {
  DST_CHECK(templates.has_value(), file.path(),
            ": a CSV file needs a prompt and an answer template with {column}s");
  CsvReader reader(file.path(), file.text());
  const std::vector<std::string> columns = read_header(reader, file.path());
  while (auto row = reader.next()) {
    const std::string place = place_of(file.path(), row->line);
    DST_CHECK(row->fields.size() == columns.size(), place, ": ", row->fields.size(),
              " fields, the header has ", columns.size(),
              "; fields with commas or line ends need quotes");
    auto segments = templates->render([&](const std::string& name) {
      auto column = std::find(columns.begin(), columns.end(), name);
      if (column == columns.end()) throw_missing_field(place, name, columns);
      return row->fields[static_cast<size_t>(column - columns.begin())];
    });
    visit_checked({std::move(segments), place}, visit);
  }
}

SourceFormat format_of(const std::string& path, SourceFormat wanted) {
  if (wanted != SourceFormat::kAuto) return wanted;
  const auto dot = path.find_last_of("./");
  std::string extension = dot != std::string::npos && path[dot] == '.' ? path.substr(dot) : "";
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".txt" || extension == ".text" || extension == ".md") return SourceFormat::kText;
  if (extension == ".jsonl" || extension == ".ndjson") return SourceFormat::kJsonl;
  if (extension == ".csv") return SourceFormat::kCsv;
  throw InvalidArgument(concat(path, ": no format is known by the extension \"", extension,
                               "\"; set the format to text, jsonl or csv"));
}

}  // namespace

SourceFormat parse_source_format(std::string_view name) {
  const std::vector<std::string> names = {"auto", "text", "jsonl", "csv"};
  auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    const std::string nearest = nearest_word(name, names);
    throw InvalidArgument(concat(
        "unknown source format \"", name, "\"; ",
        nearest.empty() ? concat("known are ", names) : concat("did you mean ", nearest, "?")));
  }
  return static_cast<SourceFormat>(found - names.begin());
}

void for_each_record(Env& env, const SourceOptions& options, const Visit& visit) {
  DST_CHECK(!options.paths.empty(), "no source files were given");
  const std::optional<Templates> templates = parse_templates(options);
  for (const std::string& path : options.paths) {
    const SourceFormat format = format_of(path, options.format);
    const TextFile file(env, path);
    switch (format) {
      case SourceFormat::kText: read_text_file(file, options.text_unit, visit); break;
      case SourceFormat::kJsonl:
        read_jsonl_file(file, templates, options.render_chat, visit);
        break;
      case SourceFormat::kCsv: read_csv_file(file, templates, visit); break;
      case SourceFormat::kAuto: throw Internal(path + ": format_of left the format open");
    }
  }
}

}  // namespace deepseek_train::data
