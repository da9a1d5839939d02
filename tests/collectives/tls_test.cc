// Ranks that prove who they are, and those that cannot.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "collectives/transport/tcp/lobby.h"
#include "collectives/transport/tls/certificate.h"
#include "collectives/transport/tls/make_tls.h"
#include "tests/collectives/certificates.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using deepseek_train::testing::CertificateRequest;
using deepseek_train::testing::TestAuthority;
using deepseek_train::testing::TestCredentials;
using test_support::launch_info;
using testing::random_values;
using testing::same_bits;

const std::string kJob = "spiffe://bank.example/training/job-42";

std::string id_of(int rank) { return concat(kJob, "/rank/", rank); }

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// One launch of ranks as threads, each with credentials of its own.
class Launch {
 public:
  explicit Launch(std::vector<std::shared_ptr<CredentialSource>> sources)
      : sources_(std::move(sources)),
        job_id_(test_support::unique_job_id()),
        port_(test_support::free_port()) {}

  CommunicatorOptions options(int rank) const {
    CommunicatorOptions options;
    options.launch = launch_info(rank, static_cast<int>(sources_.size()), job_id_);
    options.launch.rendezvous_host = "127.0.0.1";
    options.launch.rendezvous_port = port_;
    options.transport = "tcp";
    options.timeout = timeout;
    options.identity.credentials = sources_[rank];
    options.identity.job = kJob;
    options.algorithm = algorithm;
    return options;
  }

  // "" or its error, by rank.
  std::vector<std::string> run(const test_support::RankBody& body) const {
    std::vector<std::string> errors(sources_.size());
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < sources_.size(); ++rank) {
      threads.emplace_back([&, rank] {
        try {
          const auto communicator = make_communicator(options(static_cast<int>(rank)));
          body(*communicator);
        } catch (const PermissionDenied& error) {
          errors[rank] = concat("PermissionDenied: ", error.what());
        } catch (...) {
          errors[rank] = test_support::current_error();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    return errors;
  }

  std::chrono::milliseconds timeout = 20s;
  std::string algorithm = "auto";

 private:
  const std::vector<std::shared_ptr<CredentialSource>> sources_;
  const std::string job_id_;
  const int port_;
};

std::shared_ptr<TestCredentials> credentials_of(const TestAuthority& authority,
                                                const CertificateRequest& request) {
  return std::make_shared<TestCredentials>(authority.issue(request));
}

std::vector<std::shared_ptr<CredentialSource>> good_sources(const TestAuthority& authority,
                                                            int size) {
  std::vector<std::shared_ptr<CredentialSource>> sources;
  for (int rank = 0; rank < size; ++rank)
    sources.push_back(credentials_of(authority, {.uri = id_of(rank)}));
  return sources;
}

void expect_no_errors(const std::vector<std::string>& errors) {
  for (const auto& error : errors) EXPECT_EQ(error, "");
}

TEST(TlsTest, CollectivesWorkAndGiveTheBitsOfPlainTcp) {
  const TestAuthority authority("Bank CA");
  for (const char* algorithm : {"tree", "ring"}) {
    std::vector<std::vector<float>> plain(3), secure(3);
    const auto reduce = [](std::vector<std::vector<float>>& results) {
      return [&results](Communicator& communicator) {
        auto& data = results[communicator.rank()];
        data = random_values<float>(1'000'003, communicator.rank());
        communicator.all_reduce(std::span(data));
      };
    };
    Launch launch(good_sources(authority, 3));
    launch.algorithm = algorithm;
    expect_no_errors(launch.run([&](Communicator& communicator) {
      EXPECT_EQ(communicator.transport(), "tls");
      reduce(secure)(communicator);
    }));
    CommunicatorOptions options;
    options.transport = "tcp";
    options.algorithm = algorithm;
    test_support::run_ranks(3, reduce(plain), options);
    for (int rank = 0; rank < 3; ++rank)
      EXPECT_TRUE(same_bits(plain[rank], secure[rank])) << algorithm;
  }
}

TEST(TlsTest, MessagesPartsAndSubGroupsAreSecuredToo) {
  const TestAuthority authority("Bank CA");
  expect_no_errors(Launch(good_sources(authority, 4)).run([](Communicator& communicator) {
    const int rank = communicator.rank();
    std::vector<int32_t> sent(4 * 1000, rank), received(4 * 1000);
    communicator.all_to_all(sent, std::span(received));
    for (int r = 0; r < 4; ++r) EXPECT_EQ(received[1000 * r + 999], r);
    int32_t message = rank;
    if (rank == 3) communicator.send(&message, sizeof(message), 0);
    if (rank == 0) communicator.recv(&message, sizeof(message), 3);
    EXPECT_EQ(message, rank == 0 ? 3 : rank);
    // Rank 0 of the sub-group is rank 3 or 2 of the launch, which is what certificates name.
    const auto half = communicator.split(rank % 2, -rank);
    EXPECT_EQ(half->transport(), "tls");
    std::vector<int32_t> sum = {rank};
    half->all_reduce(std::span(sum));
    EXPECT_EQ(sum[0], rank % 2 == 0 ? 2 : 4);
  }));
}

TEST(TlsTest, LargeBuffersDoNotHang) {
  const TestAuthority authority("Bank CA");
  for (const char* algorithm : {"tree", "ring"}) {
    Launch launch(good_sources(authority, 2));
    launch.algorithm = algorithm;
    expect_no_errors(launch.run([](Communicator& communicator) {
      std::vector<float> data((size_t{64} << 20) / sizeof(float), 1.5f);
      communicator.all_reduce(std::span(data));
      EXPECT_EQ(std::count(data.begin(), data.end(), 3.0f), std::ssize(data));
    }));
  }
}

// Rank 1 of 2 has these credentials; both sides must refuse in bounded time, and say what was found
// and what was wanted.
void expect_refused(std::shared_ptr<CredentialSource> zero, std::shared_ptr<CredentialSource> one,
                    const std::string& found_by_zero, const std::string& found_by_one) {
  Launch launch({std::move(zero), std::move(one)});
  launch.timeout = 1500ms;
  const auto start = std::chrono::steady_clock::now();
  const auto errors = launch.run([](Communicator&) { FAIL() << "let in"; });
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  EXPECT_TRUE(contains(errors[0], "rank(s) 1 of 2 did not reach the rendezvous")) << errors[0];
  EXPECT_TRUE(contains(errors[0], found_by_zero)) << errors[0];
  EXPECT_TRUE(contains(errors[1], "PermissionDenied: ")) << errors[1];
  EXPECT_TRUE(contains(errors[1], found_by_one)) << errors[1];
}

TEST(TlsTest, AnotherRanksCertificateIsRefused) {
  const TestAuthority authority("Bank CA");
  expect_refused(credentials_of(authority, {.uri = id_of(0)}),
                 credentials_of(authority, {.uri = id_of(0)}),
                 "it says it is rank 1, and its certificate says rank 0",
                 "it says it is rank 1, and its certificate says rank 0");
}

TEST(TlsTest, ARankBeyondTheLaunchIsRefused) {
  const TestAuthority authority("Bank CA");
  expect_refused(credentials_of(authority, {.uri = id_of(0)}),
                 credentials_of(authority, {.uri = id_of(2)}),
                 concat("found ", id_of(2), " (issued by Bank CA"), concat("it says ", id_of(2)));
}

TEST(TlsTest, AnotherJobsCertificateIsRefused) {
  const TestAuthority authority("Bank CA");
  const std::string other = "spiffe://bank.example/training/job-43/rank/1";
  expect_refused(credentials_of(authority, {.uri = id_of(0)}),
                 credentials_of(authority, {.uri = other}),
                 concat("its certificate is another's: found ", other, " (issued by Bank CA"),
                 concat("it says ", other));
}

TEST(TlsTest, ACertificateWithoutANameIsRefused) {
  const TestAuthority authority("Bank CA");
  expect_refused(credentials_of(authority, {.uri = id_of(0)}), credentials_of(authority, {}),
                 "found no URI name (issued by Bank CA", "it says no URI name");
}

TEST(TlsTest, AnExpiredCertificateIsRefused) {
  const TestAuthority authority("Bank CA");
  expect_refused(credentials_of(authority, {.uri = id_of(0)}),
                 credentials_of(authority, {.uri = id_of(1), .begins = -2h, .ends = -1h}),
                 "certificate has expired", concat("it says ", id_of(1)));
}

TEST(TlsTest, AnotherAuthoritysCertificateIsRefused) {
  const TestAuthority authority("Bank CA"), other("Other CA");
  Credentials foreign = other.issue({.uri = id_of(1)});
  foreign.trust_bundle = authority.trust_bundle();
  expect_refused(credentials_of(authority, {.uri = id_of(0)}),
                 std::make_shared<TestCredentials>(foreign), "issued by Other CA",
                 "issued by Other CA");
}

TEST(TlsTest, ARankWithoutACertificateIsRefused) {
  const TestAuthority authority("Bank CA");
  expect_refused(
      credentials_of(authority, {.uri = id_of(0)}),
      std::make_shared<TestCredentials>(Credentials{.trust_bundle = authority.trust_bundle()}),
      "it showed no certificate", "there is no certificate");
}

TEST(TlsTest, ARankZeroWithAnothersCertificateIsRefusedByTheOthers) {
  const TestAuthority authority("Bank CA");
  Launch launch(
      {credentials_of(authority, {.uri = id_of(1)}), credentials_of(authority, {.uri = id_of(1)})});
  launch.timeout = 1500ms;
  const auto errors = launch.run([](Communicator&) { FAIL() << "let in"; });
  EXPECT_TRUE(contains(errors[1], concat("found ", id_of(1)))) << errors[1];
  EXPECT_TRUE(contains(errors[1], concat("wanted ", id_of(0)))) << errors[1];
  EXPECT_TRUE(contains(errors[0], "refused this rank's certificate")) << errors[0];
}

TEST(TlsTest, AClearTextRankIsRefused) {
  const TestAuthority authority("Bank CA");
  const Launch launch(good_sources(authority, 2));
  std::thread secure([&] {
    auto options = launch.options(0);
    options.timeout = 1500ms;
    EXPECT_THROW(make_communicator(options), Timeout);
  });
  auto options = launch.options(1);
  options.identity.credentials = nullptr;
  options.timeout = 1s;
  EXPECT_THROW(make_communicator(options), Error);
  secure.join();
}

TEST(TlsTest, SilentAndNoisyStrangersDelayNobody) {
  const TestAuthority authority("Bank CA");
  const Launch launch(good_sources(authority, 3));
  const int port = launch.options(0).launch.rendezvous_port;
  std::thread rank_zero([&] {
    const auto communicator = make_communicator(launch.options(0));
    communicator->barrier();
  });
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  std::vector<UniqueFd> strangers;
  for (int i = 0; i < 20; ++i) strangers.push_back(connect_to({"127.0.0.1", port}, deadline));
  const std::string noise(5000, 'x');
  for (int i = 0; i < 10; ++i)
    EXPECT_GT(::send(strangers[i].get(), noise.data(), noise.size(), MSG_NOSIGNAL), 0);
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int rank : {1, 2}) {
    others.emplace_back([&, rank] {
      const auto communicator = make_communicator(launch.options(rank));
      communicator->barrier();
    });
  }
  for (auto& other : others) other.join();
  rank_zero.join();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 900ms) << "strangers were waited out";
}

TEST(TlsTest, LaterConnectionsUseRotatedCredentials) {
  const TestAuthority authority("Bank CA"), next("Next CA");
  std::vector<std::shared_ptr<TestCredentials>> sources;
  for (int rank = 0; rank < 2; ++rank)
    sources.push_back(credentials_of(authority, {.uri = id_of(rank)}));
  expect_no_errors(Launch({sources.begin(), sources.end()}).run([&](Communicator& communicator) {
    communicator.barrier();
    // Were the old ones still used by one side, the other would refuse it.
    sources[communicator.rank()]->rotate(next.issue({.uri = id_of(communicator.rank())}));
    communicator.barrier();
    const auto group = communicator.split(0, communicator.rank());
    group->barrier();
    communicator.barrier();
  }));
}

TEST(TlsTest, ConnectionsAreMadeAnewBeforeTheirCertificateEnds) {
  const TestAuthority authority("Bank CA"), next("Next CA");
  std::vector<std::shared_ptr<TestCredentials>> sources;
  for (int rank = 0; rank < 3; ++rank)
    sources.push_back(credentials_of(authority, {.uri = id_of(rank), .ends = 3s}));
  std::vector<int> asked(3);
  expect_no_errors(Launch({sources.begin(), sources.end()}).run([&](Communicator& communicator) {
    const int rank = communicator.rank();
    communicator.barrier();
    sources[rank]->rotate(next.issue({.uri = id_of(rank)}));
    asked[rank] = sources[rank]->num_asked();
    std::vector<float> data(1000);
    for (int round = 0; round < 50; ++round) {
      std::fill(data.begin(), data.end(), 1.0f);
      communicator.all_reduce(std::span(data));
      EXPECT_EQ(data[999], 3.0f);
      std::this_thread::sleep_for(60ms);
    }
    EXPECT_GT(sources[rank]->num_asked(), asked[rank]);
  }));
}

TEST(TlsTest, ConnectionsWhoseCredentialsAreNotRenewedEndWithAReason) {
  const TestAuthority authority("Bank CA");
  std::vector<std::shared_ptr<CredentialSource>> sources = {
      credentials_of(authority, {.uri = id_of(0)}),
      credentials_of(authority, {.uri = id_of(1), .ends = 2s})};
  Launch launch(sources);
  launch.timeout = 2s;
  const auto errors = launch.run([](Communicator& communicator) {
    for (;;) {
      communicator.barrier();
      std::this_thread::sleep_for(50ms);
    }
  });
  EXPECT_TRUE(contains(errors[0] + errors[1], "expired")) << errors[0] << "\n" << errors[1];
}

TEST(TlsTest, WrongTextsAndOptionsAreNamed) {
  const TestAuthority authority("Bank CA");
  const auto make = [&](const Credentials& credentials, const std::string& job = kJob,
                        const std::string& ciphers = "TLS_AES_128_GCM_SHA256") {
    make_tls_streams({.identity = {.credentials = std::make_shared<TestCredentials>(credentials),
                                   .job = job,
                                   .ciphers = ciphers}});
  };
  const Credentials good = authority.issue({.uri = id_of(0)});
  EXPECT_NO_THROW(make(good));
  EXPECT_NO_THROW(make(good, kJob, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"));
  EXPECT_THROW(make(good, kJob, "ROT13"), InvalidArgument);
  EXPECT_THROW(make(good, "job-42"), InvalidArgument);
  EXPECT_THROW(make(good, kJob + "/"), InvalidArgument);
  Credentials bad = good;
  bad.certificate_chain = "garbage";
  EXPECT_THROW(make(bad), DataCorruption);
  bad = good;
  bad.private_key = good.private_key.substr(0, 60);
  EXPECT_THROW(make(bad), DataCorruption);
  bad.private_key = authority.issue({.uri = id_of(0)}).private_key;
  EXPECT_THROW(make(bad), DataCorruption) << "a key that is not the certificate's";
  bad = good;
  bad.trust_bundle = "";
  EXPECT_THROW(make(bad), DataCorruption);
}

TEST(TlsTest, TheRankInANameHasOneSpelling) {
  EXPECT_EQ(rank_in(kJob + "/rank/0", kJob), 0);
  EXPECT_EQ(rank_in(kJob + "/rank/16383", kJob), 16383);
  for (const char* other : {"/rank/", "/rank/01", "/rank/-1", "/rank/+1", "/rank/1/", "/rank/1x",
                            "/rank/99999999999", "/RANK/1", "/rank/ 1", ""})
    EXPECT_EQ(rank_in(kJob + other, kJob), -1) << other;
  EXPECT_EQ(rank_in("spiffe://bank.example/training/job-421/rank/1", kJob), -1);
}

// Two ends of one connection, without a mesh around them.
class StreamPair {
 public:
  explicit StreamPair(uint64_t rekey_records) {
    const TestAuthority authority("Bank CA");
    for (int rank : {0, 1}) {
      TlsOptions options{.rank = rank, .size = 2, .rekey_records = rekey_records};
      options.identity.job = kJob;
      options.identity.credentials = credentials_of(authority, {.uri = id_of(rank)});
      factories_[rank] = make_tls_streams(options);
    }
    const UniqueFd listener = listen_on(Interfaces::kLoopback, 0);
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    ends[1] = factories_[1]->connect(connect_to({"127.0.0.1", port_of(listener)}, deadline), 0);
    UniqueFd accepted;
    while (!accepted) accepted = try_accept(listener);
    ends[0] = factories_[0]->accept(std::move(accepted));
    bool zero = false, one = false;
    while (!zero || !one) {
      zero = zero || ends[0]->try_handshake();
      one = one || ends[1]->try_handshake();
    }
  }

 private:
  std::shared_ptr<StreamFactory> factories_[2];

 public:
  std::unique_ptr<Stream> ends[2];
};

TEST(TlsTest, KeysChangeOnTheWay) {
  StreamPair pair(7);
  EXPECT_EQ(pair.ends[0]->proven_rank(), 1);
  EXPECT_EQ(pair.ends[1]->proven_rank(), 0);
  const auto data = random_values<float>(1'000'000, 7);
  std::vector<float> received(data.size());
  auto out = std::as_bytes(std::span(data));
  auto in = std::as_writable_bytes(std::span(received));
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!in.empty() && std::chrono::steady_clock::now() < deadline) {
    out = out.subspan(pair.ends[0]->try_send({&out, 1}));
    in = in.subspan(pair.ends[1]->try_recv(in));
  }
  EXPECT_TRUE(same_bits(data, received));
}

TEST(TlsTest, AnAlteredByteEndsTheConnection) {
  StreamPair pair(1 << 30);
  const std::string text = "forged by somebody who has no key";
  ASSERT_GT(::send(pair.ends[0]->socket().get(), text.data(), text.size(), MSG_NOSIGNAL), 0);
  std::byte buffer[100];
  const auto read = [&] {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (std::chrono::steady_clock::now() < deadline)
      if (pair.ends[1]->try_recv(buffer) > 0) return;
  };
  EXPECT_THROW(read(), Error);
}

}  // namespace
}  // namespace deepseek_train::collectives
