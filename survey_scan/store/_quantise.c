/* float32 pixels to whole steps, as quantisation.py has it in numpy, bit by bit, in less than half the time: two passes over a
   cutout that stays in the cache. Plain C, called by that module: where the arguments change, so does the function's number. */

#include <stdint.h>
#include <string.h>

#define NOT_FINITE 0x7f800000u /* and all bits above it: infinities and NaN */
#define NO_DATA -32768
#define TINY 1.17549435e-38f   /* smaller numbers lose their precision */
#define WHOLE 12582912.0f      /* 1.5 * 2^23: added to a small number, it leaves it rounded to even, in the lowest bits */

static inline uint32_t magnitude(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits & 0x7fffffff;
}

/* Pixels of n cutouts, each of so many rows of width numbers, in which bands take turns. Step has a sixteenth of each cutout's and
   band's noise and is given what was used; work takes 2 * width numbers. */
void quantise_1(const float *pixels, int64_t n, int64_t rows, int64_t width, int64_t bands, float *step, int16_t *out,
                uint32_t *work)
{
    float *divisor = (float *)(work + width);
    for (int64_t k = 0; k < n; k++, step += bands, pixels += rows * width, out += rows * width) {
        uint32_t most = 0;
        memset(work, 0, (size_t)width * 4);
        for (int64_t y = 0; y < rows; y++)
            for (int64_t i = 0; i < width; i++) { /* floats without sign have the order of their bits */
                const int32_t one = (int32_t)magnitude(pixels[y * width + i]), other = (int32_t)work[i];
                work[i] = (uint32_t)(one > other ? one : other);
            }
        for (int64_t i = 0; i < width; i++)
            most = work[i] > most ? work[i] : most;
        const int holes = most >= NOT_FINITE;
        if (holes) {
            memset(work, 0, (size_t)width * 4);
            for (int64_t j = 0; j < rows * width; j++) {
                const uint32_t one = magnitude(pixels[j]);
                if (one < NOT_FINITE && one > work[j % width])
                    work[j % width] = one;
            }
        }
        for (int64_t b = 0; b < bands; b++) {
            float peak, used;
            most = 0;
            for (int64_t i = b; i < width; i += bands)
                most = work[i] > most ? work[i] : most;
            memcpy(&peak, &most, 4);
            used = peak / 32767.0f;
            used = step[b] > used ? step[b] : used;
            used = used == 0 ? 1 : used;
            step[b] = used < TINY ? TINY : used;
            for (int64_t i = b; i < width; i += bands)
                divisor[i] = step[b];
        }
        for (int64_t y = 0; y < rows; y++)
            for (int64_t i = 0; i < width; i++) {
                const float whole = pixels[y * width + i] / divisor[i] + WHOLE;
                uint32_t bits;
                memcpy(&bits, &whole, 4);
                out[y * width + i] = (int16_t)(bits & 0xffff);
            }
        for (int64_t j = 0; holes && j < rows * width; j++)
            if (magnitude(pixels[j]) >= NOT_FINITE)
                out[j] = NO_DATA;
    }
}
