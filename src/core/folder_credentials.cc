#include <mutex>

#include "deepseek_train/core/credentials.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train {
namespace {

class FolderCredentials final : public CredentialSource {
 public:
  FolderCredentials(Env& env, std::string folder, std::string name)
      : env_(env), folder_(std::move(folder)), name_(std::move(name)) {}

  // The same object as long as the files say the same.
  std::shared_ptr<const Credentials> current() override {
    Credentials found = read_consistently();
    std::lock_guard lock(mutex_);
    const bool is_same = last_ && last_->certificate_chain == found.certificate_chain &&
                         last_->private_key == found.private_key &&
                         last_->trust_bundle == found.trust_bundle;
    if (!is_same) last_ = std::make_shared<const Credentials>(std::move(found));
    return last_;
  }

 private:
  std::string read(const std::string& file) const {
    return read_text(env_, join_path(folder_, file));
  }

  // The folder may be replaced between two files.
  Credentials read_consistently() const {
    for (int attempt = 0; attempt < 10; ++attempt) {
      Credentials found{read(name_ + ".crt"), read(name_ + ".key"), read("ca.crt")};
      if (found.certificate_chain == read(name_ + ".crt")) return found;
    }
    throw DataCorruption(concat("the credentials in ", folder_,
                                " change while they are read; replace them less often"));
  }

  Env& env_;
  const std::string folder_;
  const std::string name_;
  std::mutex mutex_;
  std::shared_ptr<const Credentials> last_;
};

}  // namespace

std::unique_ptr<CredentialSource> folder_credentials(Env& env, const std::string& folder,
                                                     const std::string& name) {
  return std::make_unique<FolderCredentials>(env, folder, name);
}

}  // namespace deepseek_train
