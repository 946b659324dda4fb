/* Calls that have no safe use here. Including this header makes them fail to compile; base/err.h
 * includes it, so every file of the project does. Source of the idea: git's banned.h. */
#ifndef ORTHRUS_BASE_BANNED_H
#define ORTHRUS_BASE_BANNED_H

/* Their declarations come first: a macro must not meet them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a banned name's use turns into is an undeclared function, whose name is the message. */
#define ORTHRUS_BANNED(name) banned_function_##name##_use_snprintf_or_buf

#undef strcpy
#define strcpy(dst, src) ORTHRUS_BANNED(strcpy)
#undef strcat
#define strcat(dst, src) ORTHRUS_BANNED(strcat)
#undef strncpy
#define strncpy(dst, src, n) ORTHRUS_BANNED(strncpy)
#undef strncat
#define strncat(dst, src, n) ORTHRUS_BANNED(strncat)
#undef sprintf
#define sprintf(...) ORTHRUS_BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) ORTHRUS_BANNED(vsprintf)
#undef strtok
#define strtok(str, delim) ORTHRUS_BANNED(strtok)
#undef gets
#define gets(dst) ORTHRUS_BANNED(gets)
#undef atoi
#define atoi(str) ORTHRUS_BANNED(atoi)
#undef atol
#define atol(str) ORTHRUS_BANNED(atol)
#undef atof
#define atof(str) ORTHRUS_BANNED(atof)

#endif
