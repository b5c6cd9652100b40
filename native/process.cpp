// Process-wide matters: errors, the log, back ends, devices.
#include "devices.h"
#include "cpu_kernels.h"
#include "error.h"
#include "json.h"
#include "log.h"
#include "shimmy.h"

#include "ggml-backend.h"
#include "llama.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unistd.h>

#ifdef __linux__
#include <csignal>
#include <sys/prctl.h>
#endif

#ifndef SHIMMY_BACKEND_NAME
#define SHIMMY_BACKEND_NAME "cpu"
#endif
#ifndef SHIMMY_LLAMA_CPP_COMMIT
#define SHIMMY_LLAMA_CPP_COMMIT "unknown"
#endif

namespace {

constexpr size_t max_logged = 600;  // bytes of log errors kept for a message

thread_local std::string last_error = "no error";
thread_local const char * last_error_param = "";
thread_local std::string log_errors;
thread_local bool continues_error = false;

std::atomic<int> log_fd{-1};
std::atomic<int> log_level{GGML_LOG_LEVEL_ERROR + 1};

// llama.cpp calls this from any thread. Lines go out with one write() each, so that they do not mix.
void on_log(ggml_log_level level, const char * text, void *) {
    const bool is_error = level == GGML_LOG_LEVEL_ERROR || (level == GGML_LOG_LEVEL_CONT && continues_error);
    if (level != GGML_LOG_LEVEL_CONT) {
        continues_error = is_error;
    }
    if (is_error && log_errors.size() < max_logged) {
        log_errors += text;
    }
    const int fd = log_fd.load(std::memory_order_relaxed);
    const int effective = level == GGML_LOG_LEVEL_CONT ? GGML_LOG_LEVEL_INFO : static_cast<int>(level);
    if (fd >= 0 && effective >= log_level.load(std::memory_order_relaxed)) {
        const ssize_t written = ::write(fd, text, std::strlen(text));
        (void) written;  // a closed log is no reason to stop
    }
}

}  // namespace

namespace shimmy {

int32_t fail(int32_t status, const char * message, const char * param) noexcept {
    last_error_param = param;
    try {
        last_error = message;
    } catch (...) {
        last_error.clear();
    }
    return status;
}

// "load_tensors: missing tensor 'x'\nllama_model_load: error loading model: ...\n" in one line, the innermost cause first.
std::string logged_errors() {
    std::string line;
    for (const char c : log_errors) {
        if (c == '\n') {
            line += "; ";
        } else {
            line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        }
    }
    while (!line.empty() && (line.back() == ' ' || line.back() == ';')) {
        line.pop_back();
    }
    return line;
}

void forget_log() noexcept { log_errors.clear(); }

char * copy_string(const std::string & text) {
    char * copy = static_cast<char *>(std::malloc(text.size() + 1));
    if (copy == nullptr) {
        throw std::bad_alloc();
    }
    std::memcpy(copy, text.c_str(), text.size() + 1);
    return copy;
}

}  // namespace shimmy

using namespace shimmy;

extern "C" {

int32_t shimmy_abi_version(void) { return SHIMMY_ABI_VERSION; }

const char * shimmy_last_error(void) { return last_error.c_str(); }

const char * shimmy_last_error_param(void) { return last_error_param; }

void shimmy_string_free(char * text) { std::free(text); }

int32_t shimmy_start(int32_t fd, int32_t min_level) {
    return guarded([&] {
        log_fd = fd;
        log_level = min_level;
        static std::once_flag once;
        std::call_once(once, [] {
            llama_log_set(on_log, nullptr);
            common_log_set_verbosity_thold(-1);  // common's own log has a thread of its own: silence it
            llama_backend_init();
            install_cpu_kernels();
        });
    });
}

void shimmy_end_with_parent(void) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

int32_t shimmy_build_facts(char ** out) {
    return guarded([&] {
        require(out != nullptr, "out is NULL");
        common_json devices = common_json::array();
        for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
            ggml_backend_dev_t device = ggml_backend_dev_get(i);
            size_t free_bytes = 0;
            size_t total_bytes = 0;
            ggml_backend_dev_memory(device, &free_bytes, &total_bytes);
            devices.push_back({{"name", ggml_backend_dev_name(device)},
                               {"description", ggml_backend_dev_description(device)},
                               {"type", device_type(device)},
                               {"memory_free", static_cast<uint64_t>(free_bytes)},
                               {"memory_total", static_cast<uint64_t>(total_bytes)}});
        }
        common_json facts = common_json::object();
        facts["backend"] = SHIMMY_BACKEND_NAME;
        facts["llama_cpp"] = std::string(llama_version()) + " (" SHIMMY_LLAMA_CPP_COMMIT ")";
        facts["system_info"] = llama_print_system_info();
#ifdef SHIMMY_OPENMP
        facts["threads"] = "openmp";
#else
        facts["threads"] = "own";
#endif
        facts["devices"] = devices;
        *out = copy_string(facts.dump_safe());
    });
}

}  // extern "C"
