#include "deepseek_train/text/tokenizer.h"

#include <gtest/gtest.h>

#include <thread>

#include "deepseek_train/core/error.h"
#include "tests/text/small_tokenizer.h"

namespace deepseek_train::text {
namespace {

using Ids = std::vector<int32_t>;

Tokenizer small_tokenizer() { return Tokenizer::from_vocabulary(small_vocabulary()); }

Tokenizer with_pre(const std::string& pre) {
  auto vocabulary = small_vocabulary();
  vocabulary.pre = pre;
  return Tokenizer::from_vocabulary(vocabulary);
}

TEST(Tokenizer, MergesInLearnedOrder) {
  auto tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.encode("the"), (Ids{kThe}));
  EXPECT_EQ(tokenizer.encode("the the"), (Ids{kThe, kSpaceThe}));
  EXPECT_EQ(tokenizer.encode("tthh"), (Ids{'t', kTh, 'h'}));
  EXPECT_EQ(tokenizer.encode(""), (Ids{}));
}

TEST(Tokenizer, LongWordsMergeAsShortOnesDo) {
  auto tokenizer = small_tokenizer();
  Ids wanted;
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += "tthe";
    wanted.insert(wanted.end(), {'t', kThe});
  }
  EXPECT_EQ(tokenizer.encode(text), wanted);
}

TEST(Tokenizer, SpecialTokensAreParsedOnRequest) {
  auto tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.encode("the<|im_end|>the"), (Ids{kThe, kEnd, kThe}));
  auto as_text = tokenizer.encode("<|im_end|>", false);
  EXPECT_EQ(as_text.size(), 10u);
  EXPECT_EQ(tokenizer.decode(as_text), "<|im_end|>");
  EXPECT_EQ(tokenizer.encode("<user>", false), (Ids{kUser}))
      << "user-defined tokens are not special";
}

TEST(Tokenizer, DigitsAreSplitWhereThePipelineSaysSo) {
  EXPECT_EQ(with_pre("gpt-2").encode("12"), (Ids{kTwelve}));
  EXPECT_EQ(with_pre("smollm").encode("12"), (Ids{'1', '2'}));
  EXPECT_EQ(with_pre("qwen2").encode("12"), (Ids{'1', '2'}));
  EXPECT_EQ(with_pre("llama-bpe").encode("12"), (Ids{kTwelve}));
  EXPECT_EQ(with_pre("deepseek-v3").encode("12"), (Ids{kTwelve}));
}

TEST(Tokenizer, QwenComposesCharacters) {
  EXPECT_EQ(with_pre("qwen2").decode(with_pre("qwen2").encode("e\u0301")), "\u00e9");
  EXPECT_EQ(with_pre("deepseek-v3").decode(with_pre("deepseek-v3").encode("e\u0301")), "e\u0301");
}

TEST(Tokenizer, AnyBytesComeBack) {
  auto tokenizer = small_tokenizer();
  for (std::string text :
       {std::string("\xff\xfe"), std::string("the\xc3"), std::string("\xed\xa0\x80 the"),
        std::string("a\0b", 3), std::string("\xf4\x90\x80\x80"), std::string("\xc0\xafx\xe4\xb8")})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(tokenizer.encode("the\xffthe"), (Ids{kThe, 0xff, kThe}));
  std::string all;
  for (int byte = 255; byte >= 0; --byte) all += static_cast<char>(byte);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(all)), all);
}

TEST(Tokenizer, BytesWithoutATokenGiveNoId) {
  auto vocabulary = small_vocabulary();
  vocabulary.tokens['z'] = "unused";
  EXPECT_EQ(Tokenizer::from_vocabulary(vocabulary).encode("azb"), (Ids{'a', 'b'}));
}

TEST(Tokenizer, LookUps) {
  auto tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 263);
  EXPECT_EQ(tokenizer.token(kSpaceThe), "Ġthe");
  EXPECT_EQ(tokenizer.id_of("Ġthe"), kSpaceThe);
  EXPECT_EQ(tokenizer.id_of("absent"), std::nullopt);
  EXPECT_EQ(tokenizer.bos_id(), kStart);
  EXPECT_EQ(tokenizer.eos_id(), kEnd);
  EXPECT_EQ(tokenizer.pad_id(), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(kEnd));
  EXPECT_FALSE(tokenizer.is_special(kUser));
  EXPECT_THROW(tokenizer.token(263), InvalidArgument);
  EXPECT_THROW(tokenizer.is_special(-1), InvalidArgument);
}

TEST(Tokenizer, DecodeSkipsSpecialTokensOnRequest) {
  auto tokenizer = small_tokenizer();
  Ids ids = {kStart, kThe, kEnd, kUser};
  EXPECT_EQ(tokenizer.decode(ids), "<|im_start|>the<|im_end|><user>");
  EXPECT_EQ(tokenizer.decode(ids, true), "the<user>");
  EXPECT_THROW(tokenizer.decode(Ids{1000}), InvalidArgument);
}

TEST(Tokenizer, ItsOwnFilesGiveTheSameTokenizer) {
  for (const char* pre : {"smollm", "gpt-2", "qwen2", "llama-bpe", "deepseek-v3"}) {
    auto vocabulary = small_vocabulary();
    vocabulary.pre = pre;
    vocabulary.add_bos = true;
    vocabulary.chat_template = "{{ 'a' }}";
    vocabulary.model_max_length = 2048;
    auto tokenizer = Tokenizer::from_vocabulary(vocabulary);
    auto again = Tokenizer::from_json(tokenizer.to_json(), tokenizer.config_json());
    EXPECT_EQ(again.to_json(), tokenizer.to_json());
    EXPECT_EQ(again.config_json(), tokenizer.config_json());
    EXPECT_EQ(again.sha256(), tokenizer.sha256());
    EXPECT_EQ(again.bos_id(), kStart);
    EXPECT_TRUE(again.add_bos());
    EXPECT_EQ(again.chat_template(), "{{ 'a' }}");
  }
  EXPECT_NE(with_pre("gpt-2").sha256(), with_pre("smollm").sha256());
}

TEST(Tokenizer, ThreadsShareOne) {
  auto tokenizer = small_tokenizer();
  auto wanted = tokenizer.encode("the 12 <|im_end|> the x");
  std::vector<std::thread> threads;
  std::vector<int> num_equal(4);
  for (size_t t = 0; t < num_equal.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i)
        num_equal[t] += tokenizer.encode("the 12 <|im_end|> the x") == wanted;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(num_equal, (std::vector<int>{200, 200, 200, 200}));
}

}  // namespace
}  // namespace deepseek_train::text
