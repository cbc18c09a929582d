"""LLaMA against transformers."""

import transformers

from language_model import compare

LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
CONFIGURATIONS = [
    dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=32, intermediate_size=48, max_position_embeddings=24,
         vocab_size=61),
    dict(num_hidden_layers=1, num_attention_heads=6, num_key_value_heads=2, hidden_size=36, intermediate_size=50,
         max_position_embeddings=17, vocab_size=100, tie_word_embeddings=True),
    dict(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1, hidden_size=48, intermediate_size=80,
         max_position_embeddings=40, vocab_size=257, rms_norm_eps=1e-3),
    dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=16, hidden_size=40,
         intermediate_size=64, max_position_embeddings=33, vocab_size=300),
    dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, intermediate_size=64,
         max_position_embeddings=64, vocab_size=129, rope_parameters=LLAMA3, tie_word_embeddings=True),
    dict(num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, hidden_size=24, intermediate_size=33,
         max_position_embeddings=50, vocab_size=77, initializer_range=0.1,
         rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
]


def make_model(settings):
    settings = {"num_key_value_heads": settings["num_attention_heads"], **settings}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(bos_token_id=0, eos_token_id=0, **settings))


compare(CONFIGURATIONS, make_model)
