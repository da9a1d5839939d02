// TlsStream against OpenSSL's own SSL_read and SSL_write: what it puts on the wire is TLS 1.3.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "collectives/transport/tls/make_tls.h"
#include "tests/collectives/certificates.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using deepseek_train::testing::CertificateRequest;
using deepseek_train::testing::TestAuthority;
using deepseek_train::testing::TestCredentials;

const std::string kJob = "spiffe://bank.example/training/job-42";

// OpenSSL alone, on a blocking socket, with a chain check but no notion of ranks.
class StockPeer {
 public:
  StockPeer(UniqueFd socket, const Credentials& credentials, bool is_server,
            const std::string& suites)
      : socket_(std::move(socket)), context_(SSL_CTX_new(TLS_method())) {
    SSL_CTX_set_ciphersuites(context_.get(), suites.c_str());
    const BioHandle chain = bio_of(credentials.certificate_chain);
    const BioHandle key = bio_of(credentials.private_key);
    const BioHandle trusted = bio_of(credentials.trust_bundle);
    const CertificateHandle own(PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr));
    const KeyHandle own_key(PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr));
    const CertificateHandle authority(PEM_read_bio_X509(trusted.get(), nullptr, nullptr, nullptr));
    SSL_CTX_use_certificate(context_.get(), own.get());
    SSL_CTX_use_PrivateKey(context_.get(), own_key.get());
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context_.get()), authority.get());
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    const timeval patience{5, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), socket_.get());
    if (is_server)
      SSL_set_accept_state(ssl_.get());
    else
      SSL_set_connect_state(ssl_.get());
  }

  SSL* ssl() { return ssl_.get(); }
  int handshake() { return SSL_do_handshake(ssl_.get()); }
  // Sends back all that comes until the other end closes, and changes its key now and then, asking
  // for the same. Returns why it ended.
  int echo() {
    std::vector<char> bytes(100'000);
    for (int i = 0;; ++i) {
      const int count = SSL_read(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
      if (count <= 0) return SSL_get_error(ssl_.get(), count);
      if (i % 5 == 4) SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_REQUESTED);
      if (SSL_write(ssl_.get(), bytes.data(), count) != count) return SSL_ERROR_SYSCALL;
    }
  }

 private:
  static BioHandle bio_of(const std::string& text) {
    return BioHandle(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  }

  UniqueFd socket_;
  SslContextHandle context_;
  SslHandle ssl_;
};

struct Sockets {
  UniqueFd ours, theirs;
};

Sockets make_sockets() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::shared_ptr<StreamFactory> factory(const TestAuthority& authority, const std::string& suite,
                                       uint64_t rekey_records = 1 << 22) {
  TlsOptions options{.rank = 0, .size = 2, .rekey_records = rekey_records};
  options.identity = {
      .credentials = std::make_shared<TestCredentials>(authority.issue({.uri = kJob + "/rank/0"})),
      .job = kJob,
      .ciphers = suite};
  return make_tls_streams(options);
}

void shake_hands(Stream& stream) {
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (!stream.try_handshake())
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "no handshake";
}

struct Case {
  const char* suite;
  bool is_server;  // OpenSSL's end
};

class TlsInteropTest : public ::testing::TestWithParam<Case> {};

TEST_P(TlsInteropTest, SpeaksWithOpenSslInBothDirections) {
  const TestAuthority authority("Bank CA");
  const auto streams = factory(authority, GetParam().suite, 5);
  Sockets sockets = make_sockets();
  StockPeer peer(std::move(sockets.theirs), authority.issue({.uri = kJob + "/rank/1"}),
                 GetParam().is_server, GetParam().suite);
  int end = -1;
  std::thread echo([&] {
    if (peer.handshake() == 1) end = peer.echo();
  });
  {
    const auto stream = GetParam().is_server ? streams->connect(std::move(sockets.ours), 1)
                                             : streams->accept(std::move(sockets.ours));
    shake_hands(*stream);
    EXPECT_EQ(stream->proven_rank(), 1);
    std::vector<std::byte> sent(2'000'003), received(sent.size());
    for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 31 >> 3);
    std::span<const std::byte> out = sent;
    std::span<std::byte> in = received;
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    for (size_t size = 1; !in.empty() && std::chrono::steady_clock::now() < deadline;
         size = size * 3 % 100'003) {
      // A small part before a large one, as calls have.
      const std::span<const std::byte> parts[] = {
          out.first(std::min<size_t>(7, out.size())),
          out.subspan(std::min<size_t>(7, out.size()),
                      std::min(size, out.size() - std::min<size_t>(7, out.size())))};
      if (!out.empty()) {
        // After a 0 the same bytes come again.
        size_t moved = 0;
        while (moved == 0 && std::chrono::steady_clock::now() < deadline) {
          moved = stream->try_send(parts);
          const size_t got = stream->try_recv(in);
          in = in.subspan(got);
        }
        out = out.subspan(moved);
      }
      in = in.subspan(stream->try_recv(in));
    }
    EXPECT_TRUE(sent == received);
  }
  echo.join();
  EXPECT_EQ(end, SSL_ERROR_ZERO_RETURN) << "the end was not announced";
}

INSTANTIATE_TEST_SUITE_P(All, TlsInteropTest,
                         ::testing::Values(Case{"TLS_AES_128_GCM_SHA256", true},
                                           Case{"TLS_AES_128_GCM_SHA256", false},
                                           Case{"TLS_AES_256_GCM_SHA384", true},
                                           Case{"TLS_AES_256_GCM_SHA384", false},
                                           Case{"TLS_CHACHA20_POLY1305_SHA256", true},
                                           Case{"TLS_CHACHA20_POLY1305_SHA256", false}));

// It sends data right behind its certificate, which a client may.
TEST(TlsInteropTest, NoByteIsTakenFromAStrangerOfTheSameAuthority) {
  const TestAuthority authority("Bank CA");
  const auto streams = factory(authority, "TLS_AES_128_GCM_SHA256");
  for (const std::string& uri : {kJob + "/rank/2", kJob + "/rank/01", kJob + "3/rank/1",
                                 std::string("spiffe://bank.example/web"), std::string()}) {
    Sockets sockets = make_sockets();
    StockPeer peer(std::move(sockets.theirs), authority.issue({.uri = uri}), false,
                   "TLS_AES_128_GCM_SHA256");
    int sent = 0;
    std::thread stranger([&] {
      if (peer.handshake() != 1) return;
      char bytes[100] = "let me in";
      sent = SSL_write(peer.ssl(), bytes, sizeof(bytes));
      EXPECT_LE(SSL_read(peer.ssl(), bytes, sizeof(bytes)), 0) << "got an answer";
    });
    const auto stream = streams->accept(std::move(sockets.ours));
    EXPECT_THROW(shake_hands(*stream), PermissionDenied) << uri;
    EXPECT_EQ(stream->proven_rank(), Stream::kUnproven);
    stranger.join();
    EXPECT_EQ(sent, 100) << "the test has lost its point";
  }
}

TEST(TlsInteropTest, WhatComesBeforeAnAnnouncedEndIsKept) {
  const TestAuthority authority("Bank CA");
  const auto streams = factory(authority, "TLS_AES_128_GCM_SHA256");
  Sockets sockets = make_sockets();
  StockPeer peer(std::move(sockets.theirs), authority.issue({.uri = kJob + "/rank/1"}), true,
                 "TLS_AES_128_GCM_SHA256");
  std::thread last_words([&] {
    ASSERT_EQ(peer.handshake(), 1);
    EXPECT_EQ(SSL_write(peer.ssl(), "goodbye", 7), 7);
    SSL_shutdown(peer.ssl());
  });
  const auto stream = streams->connect(std::move(sockets.ours), 1);
  shake_hands(*stream);
  last_words.join();
  std::byte bytes[4096];
  EXPECT_EQ(stream->try_recv(bytes), 7u);
  EXPECT_THROW(stream->try_recv(bytes), Unavailable);
  EXPECT_THROW(stream->try_recv(bytes), Unavailable) << "an end does not pass";
}

TEST(TlsInteropTest, AConnectionCutOffIsAnEndToo) {
  const TestAuthority authority("Bank CA");
  const auto streams = factory(authority, "TLS_AES_128_GCM_SHA256");
  Sockets sockets = make_sockets();
  const int cut = ::fcntl(sockets.theirs.get(), F_DUPFD_CLOEXEC, 0);
  StockPeer peer(std::move(sockets.theirs), authority.issue({.uri = kJob + "/rank/1"}), true,
                 "TLS_AES_128_GCM_SHA256");
  std::thread server([&] { ASSERT_EQ(peer.handshake(), 1); });
  const auto stream = streams->connect(std::move(sockets.ours), 1);
  shake_hands(*stream);
  server.join();
  // Half a record, then nothing.
  const UniqueFd other(cut);
  const char half[] = {23, 3, 3, 0, 100, 1, 2, 3};
  ASSERT_EQ(::send(other.get(), half, sizeof(half), MSG_NOSIGNAL), std::ssize(half));
  ::shutdown(other.get(), SHUT_RDWR);
  std::byte bytes[100];
  EXPECT_THROW(while (true) stream->try_recv(bytes), Unavailable);
}

TEST(TlsInteropTest, AHalfOpenHandshakeIsAnEnd) {
  const TestAuthority authority("Bank CA");
  const auto streams = factory(authority, "TLS_AES_128_GCM_SHA256");
  Sockets sockets = make_sockets();
  const auto stream = streams->accept(std::move(sockets.ours));
  const char half[] = {22, 3, 1, 1, 0, 1, 0, 0};
  ASSERT_EQ(::send(sockets.theirs.get(), half, sizeof(half), MSG_NOSIGNAL), std::ssize(half));
  EXPECT_FALSE(stream->try_handshake());
  ::shutdown(sockets.theirs.get(), SHUT_WR);
  EXPECT_THROW(shake_hands(*stream), Unavailable);
}

// ---- An attacker on the wire

enum class Fault { kFlip, kDrop, kRepeat, kCut };

// Carries bytes from one socket to another, and does its harm once, at byte `at`.
class Attacker {
 public:
  Attacker(const UniqueFd& from, const UniqueFd& to, Fault fault, size_t at)
      : from_(from), to_(to), fault_(fault), at_(at) {}

  bool has_struck() const { return has_struck_; }
  // True if anything moved.
  bool pump() {
    if (is_cut_) return false;
    char bytes[5000];
    const ssize_t count = ::recv(from_.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
    if (count <= 0) {
      if (count == 0) ::shutdown(to_.get(), SHUT_WR);
      return false;
    }
    std::string text(bytes, static_cast<size_t>(count));
    if (!has_struck_ && at_ < passed_ + text.size()) strike(text, at_ - passed_);
    passed_ += static_cast<size_t>(count);
    // An end that has given up takes no more.
    if (::send(to_.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return false;
    if (is_cut_) ::shutdown(to_.get(), SHUT_WR);
    return true;
  }

 private:
  void strike(std::string& text, size_t place) {
    has_struck_ = true;
    if (fault_ == Fault::kFlip) text[place] ^= 1 << at_ % 8;
    if (fault_ == Fault::kDrop) text.erase(place, 1 + at_ % 40);
    if (fault_ == Fault::kRepeat) text.insert(place, text.substr(place, 1 + at_ % 40));
    if (fault_ == Fault::kCut) text.resize(place);
    is_cut_ = fault_ == Fault::kCut;
  }

  const UniqueFd& from_;
  const UniqueFd& to_;
  const Fault fault_;
  const size_t at_;
  size_t passed_ = 0;
  bool has_struck_ = false;
  bool is_cut_ = false;
};

// One end: shakes hands, sends `data`, and takes what comes.
struct End {
  std::unique_ptr<Stream> stream;
  std::span<const std::byte> to_send;
  std::vector<std::byte> received;
  bool is_ready = false;
  bool has_failed = false;

  bool step() try {
    if (has_failed) return false;
    if (!is_ready) return is_ready = stream->try_handshake();
    std::byte bytes[3000];
    const size_t sent = to_send.empty() ? 0 : stream->try_send({&to_send, 1});
    to_send = to_send.subspan(sent);
    const size_t count = stream->try_recv(bytes);
    received.insert(received.end(), bytes, bytes + count);
    return sent + count > 0;
  } catch (const Error&) {
    stream.reset();
    return has_failed = true;
  }
};

TEST(TlsInteropTest, AnAttackerOnTheWireCanEndAConnectionAndNoMore) {
  const TestAuthority authority("Bank CA");
  const auto rank_zero = factory(authority, "TLS_AES_128_GCM_SHA256", 3);
  TlsOptions options{.rank = 1, .size = 2, .rekey_records = 3};
  options.identity = {
      .credentials = std::make_shared<TestCredentials>(authority.issue({.uri = kJob + "/rank/1"})),
      .job = kJob};
  const auto rank_one = make_tls_streams(options);
  std::vector<std::byte> data(60'000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 131 >> 4);
  int num_strikes = 0, num_early = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    Sockets left = make_sockets(), right = make_sockets();
    const auto fault = static_cast<Fault>(seed % 4);
    // Half of them in the handshake, which is some 1500 bytes each way.
    const size_t at = seed * 2654435761u % (seed & 4 ? 1500 : 60'000);
    const size_t never = SIZE_MAX;
    Attacker there(left.theirs, right.theirs, fault, seed & 8 ? at : never);
    Attacker back(right.theirs, left.theirs, fault, seed & 8 ? never : at);
    End zero{.stream = rank_zero->accept(std::move(left.ours)), .to_send = data};
    End one{.stream = rank_one->connect(std::move(right.ours), 0), .to_send = data};
    const auto is_over = [&] {
      return zero.received.size() == data.size() && one.received.size() == data.size();
    };
    for (int idle = 0; idle < 5 && !is_over();) {
      const bool has_moved = zero.step() | one.step() | there.pump() | back.pump();
      idle = has_moved ? 0 : idle + 1;
    }
    const bool has_struck = there.has_struck() || back.has_struck();
    num_strikes += has_struck;
    for (const End* end : {&zero, &one}) {
      ASSERT_LE(end->received.size(), data.size());
      EXPECT_TRUE(std::equal(end->received.begin(), end->received.end(), data.begin()))
          << "altered bytes were let through";
    }
    // Clear bytes of the handshake that nobody looks at may change.
    const bool is_early = at < 1500;
    num_early += is_early && is_over();
    EXPECT_TRUE(is_early || (has_struck && !is_over()));
  }
  EXPECT_GT(num_strikes, 350);
  EXPECT_LT(num_early, 40);
}

}  // namespace
}  // namespace deepseek_train::collectives
