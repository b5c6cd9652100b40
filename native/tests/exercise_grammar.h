// The grammars' part of exercise.cpp.
#pragma once

#include "shimmy.h"

// Compiles, matches and refuses grammars of every kind with the model's vocabulary; ends the program on a wrong answer.
void exercise_grammar(const shimmy_model * model, int32_t n_vocab);
