// The kernels' part of exercise.cpp.
#pragma once

// Computes products and attentions of many shapes by our own kernels; ends the program where one differs far from ggml's.
void exercise_kernels();
