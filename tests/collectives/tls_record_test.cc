// The record layer below TlsStream: ciphers, keys, records.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string_view>

#include "collectives/transport/tls/record.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  int digits = 0, value = 0;
  for (const char c : text) {
    if (c == ' ') continue;
    value = 16 * value + (c <= '9' ? c - '0' : c - 'a' + 10);
    if (++digits % 2 == 0) bytes.push_back(static_cast<std::byte>(std::exchange(value, 0)));
  }
  return bytes;
}

Bytes random_bytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

RecordCipher::Nonce nonce_of(const Bytes& bytes) {
  RecordCipher::Nonce nonce;
  std::copy_n(bytes.begin(), nonce.size(), nonce.begin());
  return nonce;
}

// Every cipher there is on this processor.
std::vector<std::unique_ptr<RecordCipher>> ciphers(CipherKind kind, const Bytes& key) {
  std::vector<std::unique_ptr<RecordCipher>> made;
  made.push_back(make_evp_cipher(kind, key));
  made.push_back(make_record_cipher(kind, key));
  if (auto vector = make_vector_cipher(kind, key)) made.push_back(std::move(vector));
  return made;
}

struct KnownAnswer {
  CipherKind kind;
  std::string_view key, sealed;
};

// Test cases 3 and 15 of McGrew and Viega, "The Galois/Counter Mode of Operation".
TEST(RecordCipherTest, GivesThePublishedAnswers) {
  const Bytes text = from_hex(
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
      "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255");
  const auto nonce = nonce_of(from_hex("cafebabefacedbaddecaf888"));
  const KnownAnswer answers[] = {
      {CipherKind::kAes128Gcm, "feffe9928665731c6d6a8f9467308308",
       "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
       "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
       "4d5c2af327cd64a62cf35abd2ba6fab4"},
      {CipherKind::kAes256Gcm, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
       "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
       "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
       "b094dac5d93471bdec1a502270e3cc6c"}};
  for (const auto& answer : answers) {
    for (const auto& cipher : ciphers(answer.kind, from_hex(answer.key))) {
      Bytes sealed(text.size() + RecordCipher::kTagBytes);
      cipher->seal(nonce, {}, std::span(text).first(text.size() - 1), text.back(), sealed.data());
      EXPECT_EQ(sealed, from_hex(answer.sealed));
    }
  }
}

TEST(RecordCipherTest, AllAgreeOnEverySize) {
  const Bytes header = random_bytes(5, 1);
  const auto nonce = nonce_of(random_bytes(12, 2));
  const Bytes text = random_bytes(16384, 3);
  std::vector<size_t> sizes(1200);
  std::iota(sizes.begin(), sizes.end(), 0);
  for (size_t size : {4095, 4096, 8191, 16383, 16384}) sizes.push_back(size);
  for (const auto kind :
       {CipherKind::kAes128Gcm, CipherKind::kAes256Gcm, CipherKind::kChaCha20Poly1305}) {
    const auto made = ciphers(kind, random_bytes(key_bytes(kind), 4));
    for (const size_t size : sizes) {
      const auto body = std::span(text).first(size);
      Bytes wanted(size + RecordCipher::kOverhead);
      made[0]->seal(nonce, header, body, std::byte{23}, wanted.data());
      for (const auto& cipher : made) {
        // In place, and with a guard behind it.
        Bytes sealed(wanted.size() + 64, std::byte{0x5a});
        std::ranges::copy(body, sealed.begin());
        cipher->seal(nonce, header, std::span(sealed).first(size), std::byte{23}, sealed.data());
        ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), sealed.begin())) << size;
        ASSERT_EQ(std::count(sealed.begin() + wanted.size(), sealed.end(), std::byte{0x5a}), 64);
        Bytes opened(size + 64, std::byte{0x5a});
        std::byte type{};
        ASSERT_TRUE(cipher->open(nonce, header, wanted, opened.data(), type)) << size;
        ASSERT_EQ(type, std::byte{23});
        ASSERT_TRUE(std::equal(body.begin(), body.end(), opened.begin())) << size;
        ASSERT_EQ(std::count(opened.begin() + size, opened.end(), std::byte{0x5a}), 64);
      }
    }
  }
}

TEST(RecordCipherTest, AnyAlteredBitIsSeen) {
  const auto nonce = nonce_of(random_bytes(12, 2));
  for (const auto kind :
       {CipherKind::kAes128Gcm, CipherKind::kAes256Gcm, CipherKind::kChaCha20Poly1305}) {
    for (const auto& cipher : ciphers(kind, random_bytes(key_bytes(kind), 4))) {
      for (const size_t size : {0, 1, 15, 16, 100, 511, 512, 700}) {
        Bytes header = random_bytes(5, 1), sealed(size + RecordCipher::kOverhead), out(size + 1);
        std::byte type{};
        cipher->seal(nonce, header, random_bytes(size, 7), std::byte{23}, sealed.data());
        for (size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
          const auto mask = static_cast<std::byte>(1 << bit % 8);
          sealed[bit / 8] ^= mask;
          ASSERT_FALSE(cipher->open(nonce, header, sealed, out.data(), type)) << bit;
          sealed[bit / 8] ^= mask;
        }
        auto other_nonce = nonce;
        other_nonce[11] ^= std::byte{1};
        EXPECT_FALSE(cipher->open(other_nonce, header, sealed, out.data(), type));
        header[4] ^= std::byte{1};
        EXPECT_FALSE(cipher->open(nonce, header, sealed, out.data(), type));
        header[4] ^= std::byte{1};
        EXPECT_TRUE(cipher->open(nonce, header, sealed, out.data(), type));
      }
    }
  }
}

TrafficKey make_key(std::string_view suite = "TLS_AES_128_GCM_SHA256") {
  const CipherSuite* found = find_cipher_suite(suite);
  return TrafficKey(*found, random_bytes(suite.ends_with("384") ? 48 : 32, 11));
}

// A record of RFC 8448, section 3: from the client's traffic secret to the bytes on the wire.
TEST(RecordTest, IsThatOfRfc8448) {
  RecordWriter writer(
      TrafficKey(*find_cipher_suite("TLS_AES_128_GCM_SHA256"),
                 from_hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")));
  Bytes body(50), record(50 + kRecordOverhead);
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<std::byte>(i);
  const std::span<const std::byte> part = body;
  EXPECT_EQ(writer.seal(ContentType::kApplicationData, {&part, 1}, record.data()), 72u);
  EXPECT_EQ(record, from_hex("1703030043"
                             "a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5"
                             "b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb2169"
                             "4915e4"));
}

class RecordsTest : public ::testing::TestWithParam<const char*> {
 protected:
  RecordsTest() : writer_(make_key(GetParam())), reader_(make_key(GetParam())) {}

  Bytes seal(const Bytes& body) {
    Bytes record(body.size() + kRecordOverhead);
    const std::span<const std::byte> part = body;
    writer_.seal(ContentType::kApplicationData, {&part, 1}, record.data());
    return record;
  }
  Bytes open(const Bytes& record) {
    Bytes body(record.size());
    size_t size = 0;
    EXPECT_EQ(reader_.open(record, body.data(), size), ContentType::kApplicationData);
    body.resize(size);
    return body;
  }

  RecordWriter writer_;
  RecordReader reader_;
};

TEST_P(RecordsTest, OpenInTheOrderOfSealing) {
  for (uint32_t i = 0; i < 1000; ++i) {
    const Bytes body = random_bytes(i % 77, i);
    ASSERT_EQ(open(seal(body)), body);
    if (i % 300 == 299) {
      Bytes message(RecordWriter::kKeyChangeBytes), body(100);
      size_t size = 0;
      EXPECT_EQ(writer_.change_key(message.data()), message.size());
      EXPECT_EQ(reader_.open(message, body.data(), size), ContentType::kHandshake);
      EXPECT_EQ(size, 5u);
      reader_.change_key();
    }
  }
}

TEST_P(RecordsTest, OneLeftOutIsSeen) {
  seal({std::byte{1}});
  const Bytes second = seal({std::byte{2}});
  EXPECT_THROW(open(second), DataCorruption);
}

TEST_P(RecordsTest, ARepeatedOneIsSeen) {
  const Bytes record = seal({std::byte{1}});
  open(record);
  EXPECT_THROW(open(record), DataCorruption);
}

TEST_P(RecordsTest, OneOfTheOldKeyIsSeen) {
  const Bytes record = seal({std::byte{1}});
  reader_.change_key();
  EXPECT_THROW(open(record), DataCorruption);
}

TEST_P(RecordsTest, AForgedOneLeavesNothingBehind) {
  Bytes record = seal(random_bytes(1000, 5));
  record[500] ^= std::byte{1};
  Bytes body(1000, std::byte{0x5a});
  size_t size = 0;
  EXPECT_THROW(reader_.open(record, body.data(), size), DataCorruption);
  EXPECT_EQ(std::count(body.begin(), body.end(), std::byte{0}), 1000);
}

TEST_P(RecordsTest, PartsShareARecord) {
  const Bytes first = random_bytes(300, 1), second = random_bytes(700, 2);
  const std::span<const std::byte> parts[] = {first, second};
  Bytes record(1000 + kRecordOverhead);
  EXPECT_EQ(writer_.seal(ContentType::kApplicationData, parts, record.data()), record.size());
  Bytes wanted = first;
  wanted.insert(wanted.end(), second.begin(), second.end());
  EXPECT_EQ(open(record), wanted);
}

INSTANTIATE_TEST_SUITE_P(Suites, RecordsTest,
                         ::testing::Values("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                           "TLS_CHACHA20_POLY1305_SHA256"));

TEST(RecordTest, IsFoundOnceItIsWhole) {
  Bytes bytes(kRecordHeader + 20);
  bytes[0] = std::byte{23};
  bytes[1] = bytes[2] = std::byte{3};
  bytes[4] = std::byte{20};
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(find_record(std::span(bytes).first(size)));
  bytes.push_back(std::byte{});
  EXPECT_EQ(find_record(bytes)->size(), kRecordHeader + 20);
}

// Its length is in clear, and must not make anybody wait for or read what cannot be.
TEST(RecordTest, WhatIsNoneIsNamed) {
  const auto looks = [](int type, int major, size_t sealed) {
    Bytes bytes = {static_cast<std::byte>(type), static_cast<std::byte>(major), std::byte{3},
                   static_cast<std::byte>(sealed >> 8), static_cast<std::byte>(sealed)};
    find_record(bytes);
  };
  EXPECT_NO_THROW(looks(23, 3, 17));
  EXPECT_NO_THROW(looks(23, 3, kMaxRecord - kRecordHeader));
  EXPECT_THROW(looks(23, 3, 16), DataCorruption);
  EXPECT_THROW(looks(23, 3, 0), DataCorruption);
  EXPECT_THROW(looks(23, 3, kMaxRecord - kRecordHeader + 1), DataCorruption);
  EXPECT_THROW(looks(23, 2, 100), DataCorruption);
  EXPECT_THROW(looks(22, 3, 100), DataCorruption) << "a handshake in clear text";
  EXPECT_THROW(looks(21, 3, 17), DataCorruption) << "an alert in clear text";
}

}  // namespace
}  // namespace deepseek_train::collectives
