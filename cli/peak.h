/* What this machine could do at most: multiply-adds between registers alone, no memory, no
 * epilogue. The yardstick that `orthrus bench` holds a run against. */
#ifndef ORTHRUS_CLI_PEAK_H
#define ORTHRUS_CLI_PEAK_H

#include "model/encoder/cpu.h"

/* GFLOP/s (for int8: integer operations; multiply and add count two) of `threads` threads at once,
 * with the widest instructions of that level for that precision; ISA_GENERIC, which leaves the
 * choice to OpenBLAS, counts as the machine's best. The level is one that the machine has. Takes
 * 150 ms. 0 where it can't be measured: on another architecture, without memory. */
double peak_gflops(enum isa isa, enum precision precision, unsigned threads);

#endif
