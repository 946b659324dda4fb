/* Any bytes on a connection: the verdict is the same in whatever pieces they come, stays once it is
 * doubtful, a plain request has no byte that a header section may not have, and no NUL there is
 * missed. */
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "server/http/framing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct framing whole = {0};
    struct framing pieces = {0};
    framing_feed(&whole, data, size);
    for (size_t at = 0; at < size; at++) {
        enum framing_state before = pieces.state;
        uint64_t request = pieces.begun;
        framing_feed(&pieces, data + at, 1);
        CHECK(before < FRAMING_HEAD_DOUBT || pieces.state >= before);
        CHECK(before == FRAMING_BODY || pieces.state >= FRAMING_HEAD_DOUBT || data[at] >= ' ' ||
              data[at] == '\t' || data[at] == '\r' || data[at] == '\n');
        CHECK(before == FRAMING_BODY || before == FRAMING_DOUBT || data[at] != '\0' || pieces.nul);
        CHECK(pieces.begun == request ||
              (pieces.begun == request + 1 && before == FRAMING_BETWEEN));
    }
    CHECK(whole.state == pieces.state && whole.begun == pieces.begun);
    CHECK(whole.nul == pieces.nul);
    CHECK(framing_plain(&whole, whole.begun) == (whole.state < FRAMING_HEAD_DOUBT));
    CHECK(framing_nul(&whole, whole.begun) == whole.nul);
    CHECK(!framing_plain(&whole, whole.begun + 1));
    return 0;
}
