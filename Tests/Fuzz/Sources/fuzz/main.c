/* SPDX-License-Identifier: Apache-2.0
 * Part of sprite-env.
 * What libFuzzer calls; its library brings `main`, which in a program of Swift alone would be there twice. */
#include <stddef.h>
#include <stdint.h>

int sprite_fuzz_one_input(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) { return sprite_fuzz_one_input(bytes, length); }
