// Strangers and mistakes at the TCP rendezvous.
#include <gtest/gtest.h>

#include <thread>

#include "collectives/rendezvous/address_exchange.h"
#include "deepseek_train/core/error.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using test_support::launch_info;
using test_support::unique_job_id;

LaunchInfo launch(int rank, int size, const std::string& job_id, int port) {
  LaunchInfo info = launch_info(rank, size, job_id);
  info.rendezvous_host = "127.0.0.1";
  info.rendezvous_port = port;
  return info;
}

std::vector<Endpoint> exchange(const LaunchInfo& launch, int listener_port,
                               std::chrono::milliseconds timeout) {
  return exchange_addresses(launch, listener_port, Interfaces::kLoopback, timeout,
                            *make_plain_streams());
}

std::unique_ptr<Stream> call(int port) {
  return connect_stream(*make_plain_streams(), {"127.0.0.1", port}, 0,
                        std::chrono::steady_clock::now() + 5s);
}

TEST(RendezvousTest, StrangersAreTurnedAwayAndRanksStillMeet) {
  const int port = test_support::free_port();
  const std::string job_id = unique_job_id();
  std::vector<Endpoint> at_zero;
  std::thread zero([&] { at_zero = exchange(launch(0, 2, job_id, port), 1000, 20s); });
  {
    const auto scanner = call(port);
    const std::string request = "GET / HTTP/1.1\r\nHost: here\r\nAccept: everything\r\n\r\n";
    EXPECT_TRUE(write_all(*scanner, std::as_bytes(std::span(request)),
                          std::chrono::steady_clock::now() + 5s));
  }
  { const auto silent = call(port); }
  EXPECT_THROW(exchange(launch(1, 2, "another job", port), 1001, 2s), Timeout);
  const auto at_one = exchange(launch(1, 2, job_id, port), 1001, 20s);
  zero.join();
  ASSERT_EQ(at_zero.size(), 2u);
  for (int rank : {0, 1}) {
    EXPECT_EQ(at_zero[rank].port, 1000 + rank);
    EXPECT_EQ(at_one[rank].port, 1000 + rank);
    EXPECT_EQ(at_one[rank].host, "127.0.0.1");
  }
}

TEST(RendezvousTest, DifferentSizesAreRefusedOnBothSides) {
  const int port = test_support::free_port();
  const std::string job_id = unique_job_id();
  std::thread zero(
      [&] { EXPECT_THROW(exchange(launch(0, 2, job_id, port), 1000, 10s), InvalidArgument); });
  EXPECT_THROW(exchange(launch(1, 3, job_id, port), 1001, 10s), InvalidArgument);
  zero.join();
}

TEST(RendezvousTest, TwoProcessesWithOneRankAreRefused) {
  const int port = test_support::free_port();
  const std::string job_id = unique_job_id();
  std::thread zero(
      [&] { EXPECT_THROW(exchange(launch(0, 3, job_id, port), 1000, 10s), InvalidArgument); });
  const auto claim_one = [&] {
    EXPECT_THROW(exchange(launch(1, 3, job_id, port), 1001, 10s), Error);
  };
  std::thread first(claim_one), second(claim_one);
  zero.join();
  first.join();
  second.join();
}

TEST(RendezvousTest, AServiceThatIsNotOursIsNamed) {
  const UniqueFd listener = listen_on(Interfaces::kLoopback, 0);
  std::thread service([&] {
    UniqueFd socket;
    while (!socket) socket = try_accept(listener);
    const auto stream = make_plain_streams()->accept(std::move(socket));
    const std::string banner(600, 'x');
    write_all(*stream, std::as_bytes(std::span(banner)), std::chrono::steady_clock::now() + 10s);
    std::this_thread::sleep_for(300ms);
  });
  EXPECT_THROW(exchange(launch(1, 2, unique_job_id(), port_of(listener)), 1001, 10s),
               DataCorruption);
  service.join();
}

TEST(RendezvousTest, ATakenPortIsNamed) {
  const UniqueFd listener = listen_on(Interfaces::kLoopback, 0);
  const int port = port_of(listener);
  EXPECT_THROW(exchange(launch(0, 2, unique_job_id(), port), 1000, 1s), Unavailable);
}

}  // namespace
}  // namespace deepseek_train::collectives
