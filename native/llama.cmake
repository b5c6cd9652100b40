# llama.cpp as static, position-independent libraries behind one interface target, llama_cpp.
#
# The source is the one that llama.pin names, brought into native/llama.cpp/ by fetch_llama.py.
# SHIMMY_LLAMA_CPP_DIR (CMake option or environment variable) names another checkout instead.

set(pin_file "${CMAKE_CURRENT_LIST_DIR}/llama.pin")
set(llama_source "${CMAKE_CURRENT_LIST_DIR}/llama.cpp")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${pin_file}")
file(READ "${pin_file}" pin)
string(REGEX MATCH "commit = ([0-9a-f]+)" _ "${pin}")
set(llama_commit "${CMAKE_MATCH_1}")

set(llama_override "${SHIMMY_LLAMA_CPP_DIR}")
if(NOT llama_override)
  set(llama_override "$ENV{SHIMMY_LLAMA_CPP_DIR}")
endif()

if(llama_override)
  get_filename_component(llama_source "${llama_override}" ABSOLUTE)
  if(NOT EXISTS "${llama_source}/include/llama.h")
    message(FATAL_ERROR "SHIMMY_LLAMA_CPP_DIR is '${llama_override}': there is no llama.cpp there (include/llama.h)")
  endif()
  set(llama_commit "other")
else()
  set(stamp "")
  if(EXISTS "${llama_source}/.pin")
    file(READ "${llama_source}/.pin" stamp)
  endif()
  if(NOT stamp STREQUAL pin)
    execute_process(
      COMMAND "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/fetch_llama.py" --into "${llama_source}"
      RESULT_VARIABLE status
    )
    if(NOT status EQUAL 0)
      message(FATAL_ERROR "llama.cpp's source is missing; the line above says why and what to do")
    endif()
  endif()
endif()

# Named here, because llama.cpp and ggml would ask git, which knows our history and not theirs.
set(LLAMA_BUILD_NUMBER 0)
set(LLAMA_BUILD_COMMIT "${llama_commit}")
set(CMAKE_DISABLE_FIND_PACKAGE_Git ON)
set(GIT_EXECUTABLE "" CACHE INTERNAL "")
set(GIT_EXE "" CACHE INTERNAL "")
set(GGML_BUILD_COMMIT "${llama_commit}")

set(BUILD_SHARED_LIBS OFF)
set(LLAMA_BUILD_COMMON ON)
set(LLAMA_BUILD_TOOLS OFF)
set(LLAMA_BUILD_TESTS OFF)
set(LLAMA_BUILD_EXAMPLES OFF)
set(LLAMA_BUILD_SERVER OFF)
set(LLAMA_BUILD_APP OFF)
set(LLAMA_OPENSSL OFF)
set(GGML_NATIVE ON)
set(GGML_CCACHE OFF) # the launcher is set once, at the top
set(GGML_OPENMP ${SHIMMY_OPENMP})

add_subdirectory("${llama_source}" "${CMAKE_CURRENT_BINARY_DIR}/llama.cpp" EXCLUDE_FROM_ALL)

# What of llama.cpp's `common` the library needs: chat, grammars, sampling, speculation. Its own command line, downloads and HTTP
# client stay out: an eighth of the whole build's time, and code that must never run here. (The peers below take all of it.)
find_package(Threads REQUIRED)
get_target_property(common_sources llama-common SOURCES)
list(FILTER common_sources INCLUDE REGEX "\\.cpp$")
list(FILTER common_sources EXCLUDE REGEX "(^|/)(arg|console|download|hf-cache|imatrix-loader|preset)\\.cpp$")
list(TRANSFORM common_sources PREPEND "${llama_source}/common/" REGEX "^[^/]")
add_library(llama_common_part STATIC EXCLUDE_FROM_ALL ${common_sources})
# Its parsers of single models' syntaxes are small files behind the same large headers: several at a time compile in half the time.
list(FILTER common_sources EXCLUDE REGEX "/common/parsers/")
set_source_files_properties(${common_sources} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
set_target_properties(llama_common_part PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 9)
target_include_directories(llama_common_part PUBLIC "${llama_source}/common")
target_compile_features(llama_common_part PUBLIC cxx_std_17)
target_link_libraries(llama_common_part PUBLIC llama-common-base vendor::nlohmann vendor::sheredom llama Threads::Threads)

add_library(llama_cpp INTERFACE)
target_link_libraries(llama_cpp INTERFACE llama_common_part llama ggml)
# Their headers are not held to our warnings. The targets' own include folders are given a second time here, as SYSTEM.
target_include_directories(
  llama_cpp SYSTEM
  INTERFACE "${llama_source}/include" "${llama_source}/common" "${llama_source}/ggml/include" "${llama_source}/vendor"
)

# llama.cpp's own benchmarks and server, out of the same libraries with the same flags: what scripts/bench measures against. Built
# on demand; the server without its pages.
set(LLAMA_TOOLS_INSTALL OFF)
set(LLAMA_BUILD_UI OFF)
set(LLAMA_USE_PREBUILT_UI OFF)
set(shimmy_source "${PROJECT_SOURCE_DIR}")
set(PROJECT_SOURCE_DIR "${llama_source}") # the peers look for their scripts there
foreach(peer llama-bench batched-bench mtmd ui server)
  if(EXISTS "${llama_source}/tools/${peer}/CMakeLists.txt") # a source distribution leaves them out
    add_subdirectory("${llama_source}/tools/${peer}" "${CMAKE_CURRENT_BINARY_DIR}/peers/${peer}" EXCLUDE_FROM_ALL)
  endif()
endforeach()
set(PROJECT_SOURCE_DIR "${shimmy_source}")
