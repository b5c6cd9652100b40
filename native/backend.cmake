# Chooses the device code: SHIMMY_BACKEND=auto|cpu|cuda|metal|vulkan, as a CMake option or an environment variable.
# Sets SHIMMY_BACKEND_NAME to the choice and switches ggml's options on for it.

set(shimmy_backends auto cpu cuda metal vulkan)

if(NOT DEFINED SHIMMY_BACKEND)
  # Not cached: with a build folder that lives on, an unset variable must mean auto again.
  if("$ENV{SHIMMY_BACKEND}" STREQUAL "")
    set(SHIMMY_BACKEND auto)
  else()
    set(SHIMMY_BACKEND "$ENV{SHIMMY_BACKEND}")
  endif()
endif()

string(TOLOWER "${SHIMMY_BACKEND}" backend)
if(NOT backend IN_LIST shimmy_backends)
  message(FATAL_ERROR "SHIMMY_BACKEND is '${SHIMMY_BACKEND}': choose auto, cpu, cuda, metal or vulkan")
endif()

# Searched anew at every configure: a toolkit may have been installed, or removed, since.
unset(SHIMMY_NVCC CACHE)
find_program(SHIMMY_NVCC nvcc HINTS "$ENV{CUDACXX}" "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin" PATHS /usr/local/cuda/bin)

# True where nvcc and the libraries that ggml needs are there: some packages of the toolkit come without cuBLAS.
function(shimmy_find_cuda_toolkit result)
  set(${result} FALSE PARENT_SCOPE)
  if(SHIMMY_NVCC)
    find_package(CUDAToolkit QUIET)
    if(CUDAToolkit_FOUND AND TARGET CUDA::cublas)
      set(${result} TRUE PARENT_SCOPE)
    endif()
  endif()
endfunction()

# True where an NVIDIA driver lists a device. A toolkit alone says nothing: build machines have it without a GPU.
function(shimmy_find_nvidia_gpu result)
  set(found FALSE)
  file(GLOB devices "/proc/driver/nvidia/gpus/*")
  if(devices)
    set(found TRUE)
  else()
    find_program(nvidia_smi nvidia-smi NO_CACHE)
    if(nvidia_smi)
      execute_process(COMMAND "${nvidia_smi}" -L OUTPUT_VARIABLE listing ERROR_QUIET RESULT_VARIABLE status TIMEOUT 20)
      if(status EQUAL 0 AND listing MATCHES "GPU [0-9]+:")
        set(found TRUE)
      endif()
    endif()
  endif()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

if(backend STREQUAL "auto")
  if(APPLE)
    set(backend metal)
  else()
    set(backend cpu)
    shimmy_find_nvidia_gpu(has_nvidia_gpu)
    if(has_nvidia_gpu)
      shimmy_find_cuda_toolkit(has_toolkit)
    endif()
    if(has_nvidia_gpu AND has_toolkit)
      set(backend cuda)
    elseif(has_nvidia_gpu)
      message(
        WARNING
          "This machine has an NVIDIA GPU but no CUDA toolkit (nvcc and cuBLAS), so this build uses the CPU only.\n"
          "To use the GPU: install the CUDA toolkit, put nvcc on the PATH and build again.\n"
          "To keep the CPU build without this warning: set SHIMMY_BACKEND=cpu."
      )
    endif()
  endif()
endif()

if(backend STREQUAL "cuda")
  shimmy_find_cuda_toolkit(has_toolkit)
  if(NOT has_toolkit)
    message(
      FATAL_ERROR
        "SHIMMY_BACKEND=cuda needs the CUDA toolkit with cuBLAS: put nvcc on the PATH, or set SHIMMY_BACKEND=cpu"
    )
  endif()
  if(NOT DEFINED CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER "${SHIMMY_NVCC}")
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND "$ENV{CUDAARCHS}" STREQUAL "")
    shimmy_find_nvidia_gpu(has_nvidia_gpu)
    if(has_nvidia_gpu)
      set(CMAKE_CUDA_ARCHITECTURES native) # one architecture: the build time is a multiple of their number
    else()
      set(CMAKE_CUDA_ARCHITECTURES 75-virtual 80-virtual 86-real 89-real 90-real) # "native" fails without a GPU
    endif()
  endif()
  set(GGML_CUDA ON)
  set(GGML_CUDA_NCCL OFF) # for several GPUs in one model only
elseif(backend STREQUAL "metal")
  if(NOT APPLE)
    message(FATAL_ERROR "SHIMMY_BACKEND=metal needs macOS: choose auto, cpu, cuda or vulkan here")
  endif()
  set(GGML_METAL ON)
  set(GGML_METAL_EMBED_LIBRARY ON)
elseif(backend STREQUAL "vulkan")
  find_package(Vulkan QUIET COMPONENTS glslc)
  if(NOT Vulkan_FOUND)
    message(FATAL_ERROR "SHIMMY_BACKEND=vulkan needs the Vulkan headers, loader and glslc (Debian: libvulkan-dev glslc)")
  endif()
  set(GGML_VULKAN ON)
endif()

# ggml switches Metal and Accelerate on by itself on macOS; the choice above is the only one.
if(NOT backend STREQUAL "metal")
  set(GGML_METAL OFF)
endif()

set(SHIMMY_BACKEND_NAME "${backend}")
message(STATUS "shimmy: back end ${SHIMMY_BACKEND_NAME}")
