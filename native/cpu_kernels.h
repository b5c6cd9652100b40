// Our own kernels for nodes of a graph that run on the CPU. ggml asks a list of "extra buffer types" for each node whether one of
// them computes it; ours is one of that list that holds no memory.
#pragma once

namespace shimmy {

// Adds them to ggml's list, once in a process, before the first graph runs. Does nothing where the processor has none of ours.
void install_cpu_kernels();

}  // namespace shimmy
