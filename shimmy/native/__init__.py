"""The only code that knows cffi: llama.cpp through our C ABI (native/shimmy.h)."""
