// Processors whose SHA instructions we do not use.
#include "src/core/sha256_blocks.h"

namespace deepseek_train {

Sha256HashBlocks find_sha256_instructions() { return nullptr; }

}  // namespace deepseek_train
