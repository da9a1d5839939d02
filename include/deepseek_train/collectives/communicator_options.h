// How a communicator is made.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "deepseek_train/collectives/launch.h"
#include "deepseek_train/core/credentials.h"
#include "deepseek_train/core/metrics.h"
#include "deepseek_train/core/trace.h"

namespace deepseek_train::collectives {

// Mutual TLS 1.3 on every connection between hosts, the rendezvous included.
struct NetworkIdentity {
  // Where this rank's certificate, key and trusted authorities come from; asked anew for every
  // connection. Connections are made anew between two calls when two thirds of what their
  // certificate had left to live are over. Null: no TLS.
  std::shared_ptr<CredentialSource> credentials;
  // The job's SPIFFE id, "spiffe://bank.example/training/job-42". Rank r proves with its
  // certificate (URI name) that it is JOB/rank/r; another authority's certificate, another job's or
  // another rank's is refused.
  std::string job;
  // TLS 1.3 cipher suites, OpenSSL's names.
  std::string ciphers = "TLS_AES_128_GCM_SHA256";
};

struct CommunicatorOptions {
  LaunchInfo launch;
  std::string backend = "native";  // or "mpi", "nccl"
  // native: "auto" (shm on one host; between hosts hierarchical where a host has several ranks,
  // else tcp), "shm", "tcp", "hierarchical"
  std::string transport = "auto";
  // tcp: "tree" is the reproducible order above by direct exchange; "ring" is chunked and
  // pipelined, with an order of its own (slice s is summed left to right starting at rank s, 16-bit
  // types rounded at every hop). "auto": tree order on one host and for 16-bit types, otherwise the
  // ring or tree order, by the measured costs of the links (so another launch may choose
  // differently, where LaunchInfo::cache_folder keeps none). shm is always tree.
  std::string algorithm = "auto";
  std::chrono::milliseconds timeout{60'000};
  NetworkIdentity identity;
  // Without credentials listeners bind loopback only; true lets them bind every interface, in clear
  // text, and logs a warning.
  bool insecure_network = false;
  // Keeps what shrink() needs to finish an interrupted all_reduce on private memory: a copy of its
  // input. The buffer must then live until shrink() has returned, also while the call's error is
  // being handled. (Memory from allocate_shared needs no copy.)
  bool recoverable = false;
  // Get, if not null: of every kind of call its number, bytes, seconds and quantiles of its time
  // (cumulative, every 10 s and at the end; the step is the number of calls so far), and a span of
  // every call. Borrowed: must outlive the communicator and those split from it.
  MetricsSink* metrics = nullptr;
  TraceSink* trace = nullptr;
};

}  // namespace deepseek_train::collectives
