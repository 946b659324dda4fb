#include "api/float_text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { POWER_MIN = -31, POWER_MAX = 45 };

/* powers[k - POWER_MIN] = floor(10^k * 2^(63 - floor(log2 10^k))) + 1: the paper's g, which is a
 * little above the power of ten, in 64 bits. */
static const uint64_t powers[POWER_MAX - POWER_MIN + 1] = {
    0x81ceb32c4b43fcf5, 0xa2425ff75e14fc32, 0xcad2f7f5359a3b3f, 0xfd87b5f28300ca0e,
    0x9e74d1b791e07e49, 0xc612062576589ddb, 0xf79687aed3eec552, 0x9abe14cd44753b53,
    0xc16d9a0095928a28, 0xf1c90080baf72cb2, 0x971da05074da7bef, 0xbce5086492111aeb,
    0xec1e4a7db69561a6, 0x9392ee8e921d5d08, 0xb877aa3236a4b44a, 0xe69594bec44de15c,
    0x901d7cf73ab0acda, 0xb424dc35095cd810, 0xe12e13424bb40e14, 0x8cbccc096f5088cc,
    0xafebff0bcb24aaff, 0xdbe6fecebdedd5bf, 0x89705f4136b4a598, 0xabcc77118461cefd,
    0xd6bf94d5e57a42bd, 0x8637bd05af6c69b6, 0xa7c5ac471b478424, 0xd1b71758e219652c,
    0x83126e978d4fdf3c, 0xa3d70a3d70a3d70b, 0xcccccccccccccccd, 0x8000000000000001,
    0xa000000000000001, 0xc800000000000001, 0xfa00000000000001, 0x9c40000000000001,
    0xc350000000000001, 0xf424000000000001, 0x9896800000000001, 0xbebc200000000001,
    0xee6b280000000001, 0x9502f90000000001, 0xba43b74000000001, 0xe8d4a51000000001,
    0x9184e72a00000001, 0xb5e620f480000001, 0xe35fa931a0000001, 0x8e1bc9bf04000001,
    0xb1a2bc2ec5000001, 0xde0b6b3a76400001, 0x8ac7230489e80001, 0xad78ebc5ac620001,
    0xd8d726b7177a8001, 0x878678326eac9001, 0xa968163f0a57b401, 0xd3c21bcecceda101,
    0x84595161401484a1, 0xa56fa5b99019a5c9, 0xcecb8f27f4200f3b, 0x813f3978f8940985,
    0xa18f07d736b90be6, 0xc9f2c9cd04674edf, 0xfc6f7c4045812297, 0x9dc5ada82b70b59e,
    0xc5371912364ce306, 0xf684df56c3e01bc7, 0x9a130b963a6c115d, 0xc097ce7bc90715b4,
    0xf0bdc21abb48db21, 0x96769950b50d88f5, 0xbc143fa4e250eb32, 0xeb194f8e1ae525fe,
    0x92efd1b8d0cf37bf, 0xb7abc627050305ae, 0xe596b7b0c643c71a, 0x8f7e32ce7bea5c70,
    0xb35dbf821ae4f38c,
};

/* value = digits * 10^exponent */
struct decimal {
    uint32_t digits;
    int exponent;
};

/* floor(2^exponent as a power of ten), of 3/4 * 2^exponent when closer; |exponent| <= 1650. */
static int floor_log10_pow2(int exponent, bool closer)
{
    return (exponent * 1262611 - (closer ? 524031 : 0)) >> 22;
}

/* floor(log2 10^k), |k| <= 1233. */
static int floor_log2_pow10(int k)
{
    return (k * 1741647) >> 19;
}

/* The paper's rop: the upper bits of g * factor, the lowest of them set when anything below is
 * ("round to odd"), so that comparisons with multiples of 4 stay exact. */
static uint32_t round_to_odd(uint64_t g, uint32_t factor)
{
    unsigned __int128 product = (unsigned __int128)g * factor;
    uint32_t upper = (uint32_t)(product >> 64);
    uint32_t lower = (uint32_t)(product >> 32);
    return upper | (lower > 1);
}

/* Shortest decimal in the rounding interval of c * 2^q, c > 0; closer when the lower neighbour is
 * at half the distance. Schubfach: with k so that 10^k <= width of the interval < 10^(k+1), it
 * holds at most one multiple of 10^(k+1), which then is the shortest; else the nearer of the two
 * multiples of 10^k around the value that lie inside. Everything is scaled by 4 * 10^-k. */
static struct decimal shortest(uint32_t c, int q, bool closer)
{
    bool open = c & 1; /* the ends round to even: they belong to even values */
    int k = floor_log10_pow2(q, closer);
    int shift = q + floor_log2_pow10(-k) + 1; /* 1 … 4 */
    uint64_t g = powers[-k - POWER_MIN];
    uint32_t value = round_to_odd(g, (4 * c) << shift);
    uint32_t low = round_to_odd(g, (4 * c - (closer ? 1 : 2)) << shift) + open;
    uint32_t high = round_to_odd(g, (4 * c + 2) << shift) - open;

    uint32_t s = value / 4;
    if (s >= 10) {
        uint32_t tens = s / 10;
        bool down = low <= 40 * tens;
        bool up = 40 * tens + 40 <= high;
        if (down != up) {
            return (struct decimal){tens + up, k + 1};
        }
    }
    bool down = low <= 4 * s;
    bool up = 4 * s + 4 <= high;
    if (down != up) {
        return (struct decimal){s + up, k};
    }
    uint32_t middle = 4 * s + 2;
    bool upper = value > middle || (value == middle && (s & 1));
    return (struct decimal){s + upper, k};
}

static struct decimal without_zeros(struct decimal decimal)
{
    while (decimal.digits % 10 == 0) {
        decimal.digits /= 10;
        decimal.exponent++;
    }
    return decimal;
}

/* 1 … 9 digits, of a value below 10^9. */
static int count_digits(uint32_t value)
{
    static const uint32_t limits[10] = {0,      10,      100,      1000,      10000,
                                        100000, 1000000, 10000000, 100000000, 1000000000};
    int guess = ((32 - __builtin_clz(value)) * 1233) >> 12; /* floor(log10 2^bits) */
    return guess + (value >= limits[guess]);
}

static const char pairs[201] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

/* Room for the digits and for whoever copies DIGITS_MAX bytes from any of them. */
enum { DIGITS_MAX = 9 };
struct digits {
    char text[2 * DIGITS_MAX];
};

/* Nine digits with leading zeros; text[9 - n] is the first of n. */
static void split_digits(uint32_t value, struct digits *digits)
{
    uint32_t rest = value % 100000000;
    uint32_t upper = rest / 10000;
    uint32_t lower = rest % 10000;
    digits->text[0] = (char)('0' + value / 100000000);
    memcpy(digits->text + 1, pairs + 2 * (size_t)(upper / 100), 2);
    memcpy(digits->text + 3, pairs + 2 * (size_t)(upper % 100), 2);
    memcpy(digits->text + 5, pairs + 2 * (size_t)(lower / 100), 2);
    memcpy(digits->text + 7, pairs + 2 * (size_t)(lower % 100), 2);
}

/* 12e-4 → 0.0012, 123e-1 → 12.3, 5e2 → 500.0 */
static char *put_plain(char *out, const char *digits, int n, int exponent)
{
    int whole = n + exponent; /* digits before the point, -3 … 9 */
    if (whole <= 0) {
        static const char zeros[5] = {'0', '.', '0', '0', '0'};
        memcpy(out, zeros, sizeof(zeros));
        out += 2 - whole;
        /* A fixed size is one move instead of a call; what is behind n is overwritten or unused. */
        memcpy(out, digits, DIGITS_MAX);
        return out + n;
    }
    if (exponent >= 0) {
        memcpy(out, digits, (size_t)n);
        memset(out + n, '0', (size_t)exponent);
        out[whole] = '.';
        out[whole + 1] = '0';
        return out + whole + 2;
    }
    memcpy(out, digits, (size_t)whole);
    out[whole] = '.';
    memcpy(out + whole + 1, digits + whole, (size_t)(n - whole));
    return out + n + 1;
}

/* 15e-8 → 1.5e-7 */
static char *put_scientific(char *out, const char *digits, int n, int leading)
{
    *out++ = digits[0];
    if (n > 1) {
        *out++ = '.';
        memcpy(out, digits + 1, (size_t)(n - 1));
        out += n - 1;
    }
    *out++ = 'e';
    if (leading < 0) {
        *out++ = '-';
        leading = -leading;
    }
    if (leading >= 10) {
        *out++ = (char)('0' + leading / 10);
    }
    *out++ = (char)('0' + leading % 10);
    return out;
}

size_t float_text(float value, char out[FLOAT_TEXT_MAX])
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    uint32_t fraction = bits & 0x7fffff;
    int biased = (int)(bits >> 23 & 0xff);
    if (biased == 0xff) {
        static const char null_text[4] = {'n', 'u', 'l', 'l'};
        memcpy(out, null_text, sizeof(null_text));
        return sizeof(null_text);
    }
    char *at = out;
    if (bits >> 31) {
        *at++ = '-';
    }
    if ((bits << 1) == 0) {
        static const char zero_text[3] = {'0', '.', '0'};
        memcpy(at, zero_text, sizeof(zero_text));
        return (size_t)(at - out) + sizeof(zero_text);
    }
    struct decimal decimal = biased == 0 ? shortest(fraction, -149, false)
                                         : shortest(fraction | 0x800000, biased - 150,
                                                    fraction == 0 && biased > 1);
    decimal = without_zeros(decimal);
    int n = count_digits(decimal.digits);
    int leading = n - 1 + decimal.exponent;
    struct digits digits = {{0}};
    split_digits(decimal.digits, &digits);
    const char *first = digits.text + DIGITS_MAX - n;
    at = leading >= -4 && leading <= 8 ? put_plain(at, first, n, decimal.exponent)
                                       : put_scientific(at, first, n, leading);
    return (size_t)(at - out);
}
