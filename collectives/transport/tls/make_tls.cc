#include "collectives/transport/tls/make_tls.h"

#include <mutex>

#include "collectives/transport/tls/tls_context.h"
#include "collectives/transport/tls/tls_stream.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

class TlsStreams : public StreamFactory {
 public:
  explicit TlsStreams(const TlsOptions& options)
      : options_(options), method_(TlsHandshake::make_bio_method()) {
    const std::string& job = options.identity.job;
    DST_CHECK(job.starts_with("spiffe://") && job.size() > 9 && !job.ends_with('/'),
              "identity.job is \"", job,
              "\"; wanted the job's SPIFFE id, such as spiffe://bank.example/training/job-42");
    context();
  }

  std::string_view name() const override { return "tls"; }
  std::unique_ptr<Stream> connect(UniqueFd socket, int rank) override {
    return std::make_unique<TlsStream>(context(), method_.get(), std::move(socket),
                                       TlsHandshake::Role::kConnecting, rank);
  }
  std::unique_ptr<Stream> accept(UniqueFd socket) override {
    return std::make_unique<TlsStream>(context(), method_.get(), std::move(socket),
                                       TlsHandshake::Role::kAccepting, Stream::kUnproven);
  }
  WallTime renewal_time() override { return context()->renewal_time(); }

 private:
  // Made anew when the source has other credentials than last time.
  std::shared_ptr<const TlsContext> context() {
    const auto credentials = options_.identity.credentials->current();
    std::lock_guard lock(mutex_);
    const bool is_current = context_ && context_->credentials() == credentials.get() &&
                            std::chrono::system_clock::now() < context_->renewal_time();
    if (!is_current) context_ = std::make_shared<TlsContext>(options_, credentials);
    return context_;
  }

  const TlsOptions options_;
  const BioMethodHandle method_;
  std::mutex mutex_;
  std::shared_ptr<const TlsContext> context_;
};

}  // namespace

std::shared_ptr<StreamFactory> make_tls_streams(const TlsOptions& options) {
  return std::make_shared<TlsStreams>(options);
}

}  // namespace deepseek_train::collectives
