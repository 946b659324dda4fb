/* The revision of the source that this program was built from; written by cmake/revision.cmake. */
#ifndef ORTHRUS_CLI_REVISION_H
#define ORTHRUS_CLI_REVISION_H

/* A commit's hexadecimal name, or "" where the build knew none. Constant. */
extern const char program_revision[];

#endif
