#include "src/text/char_classes.h"

#include <utf8proc.h>

#include "src/text/unicode.h"

namespace deepseek_train::text {
namespace {

uint8_t class_of_category(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return kSymbol;
    default: return 0;
  }
}

}  // namespace

uint8_t CharClasses::of_rare(char32_t code_point) {
  uint8_t result = class_of_category(utf8proc_category(static_cast<utf8proc_int32_t>(code_point)));
  if (is_white_space(code_point)) result |= kSpace;
  if (code_point == '\r' || code_point == '\n') result |= kLineEnd;
  return result;
}

CharClasses::CharClasses() {
  for (char32_t code_point = 0; code_point < basic_.size(); ++code_point)
    basic_[code_point] = of_rare(code_point);
}

const CharClasses& CharClasses::get() {
  static const CharClasses classes;
  return classes;
}

}  // namespace deepseek_train::text
