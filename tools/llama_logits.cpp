// Writes llama.cpp's logits for every token of a text, for comparison with ours.
//
//   llama_logits MODEL.gguf IDS.json OUT.f32
//
// tools/compare.sh builds and runs it.

#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

int main(int argc, char ** argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL.gguf IDS.json OUT.f32\n", argv[0]);
        return 2;
    }
    std::stringstream text;
    text << std::ifstream(argv[2]).rdbuf();
    std::vector<llama_token> ids;
    std::string digits;
    for (char c : text.str()) {
        if (isdigit((unsigned char) c)) {
            digits += c;
        } else if (!digits.empty()) {
            ids.push_back(atoi(digits.c_str()));
            digits.clear();
        }
    }
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = ids.size();
    params.n_threads = params.n_threads_batch = 2;
    llama_context * context = model ? llama_init_from_model(model, params) : nullptr;
    if (!context) {
        return 1;
    }
    llama_batch batch = llama_batch_init(ids.size(), 0, 1);
    for (size_t i = 0; i < ids.size(); i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = ids.size();
    if (llama_decode(context, batch) != 0) {
        return 1;
    }
    const size_t vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    std::ofstream out(argv[3], std::ios::binary);
    for (size_t i = 0; i < ids.size(); i++) {
        out.write((const char *) llama_get_logits_ith(context, i), vocab * sizeof(float));
    }
    return out ? 0 : 1;
}
