/* The pieces of body.h in plain C. */
#include <string.h>

#define TABLE train_kernels_generic
#define WIDTH 4
#include "train/network/kernels/body.h"
