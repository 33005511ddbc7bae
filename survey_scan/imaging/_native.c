/* Cuts windows out of float32 images: those that cfitsio quantised and compressed by RICE_1 (FITS standard 4.0, sections 10.2
   and 10.4.1), and those that are not compressed. Pixels have the bits that cfitsio gives, in less than half its time: bits are
   taken from a word of 64 instead of byte by byte, and a compression tile is decoded once for all windows, and only where
   there are any.

   Plain C, called by native.py, which has the same structures: where they change, so do the numbers of the functions. Nothing
   outside what these name is read or written, whatever the heap holds. */

#include <stdint.h>
#include <string.h>

#define FS_BITS 5              /* that tell how many low bits the pixels of a block have; of 4-byte pixels */
#define FS_DIRECT 25           /* instead: pixels of 32 bits */
#define N_RANDOM 10000         /* length of the sequence of random numbers */
#define ZERO_VALUE -2147483646 /* stands for exactly 0 with SUBTRACTIVE_DITHER_2 */
#define PIECE 512              /* pixels converted at a time */

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef struct {
    int64_t offset, length; /* bytes of the heap */
    double scale, zero;
} Tile;

typedef struct {
    const uint8_t *heap;
    int64_t heap_bytes;
    int64_t height, width;  /* of the image */
    int64_t rows, columns;  /* of a compression tile */
    int64_t block;          /* pixels that have a number of low bits in common */
    int64_t method;         /* 0: no dither; n: SUBTRACTIVE_DITHER_n */
    int64_t seed;           /* of the first tile of the image, counted from 0 */
    int64_t blank;          /* stands for NaN; no 32-bit number if none does */
    const float *random;    /* N_RANDOM of them */
    const Tile *tiles;      /* those in the rows of tiles from first to last - 1 */
    int64_t first, last;
} Image;

typedef struct {
    int64_t n;
    const int64_t *y0, *x0;   /* first pixels, sorted by y0; may lie outside the image */
    int64_t height, width;
    float *out;               /* of the first window's pixel; what is outside the image is left as it is */
    const int64_t *at;        /* of each window: where in out, in numbers */
    int64_t row, pixel;       /* from row to row, from pixel to pixel of out */
    double nodata;            /* also counted as bad; NaN if no value is */
    int64_t *bad;             /* added to: pixels that are not finite, or nodata */
} Windows;

/* The next bits of a tile on top; below those that count (have) there are zeros, or the bits that come next. */
typedef struct {
    const uint8_t *data;
    int64_t at, end;
    uint64_t bits;
    int have;
} Bits;

/* Have at least 56 bits; zeros after the end. */
static inline void refill(Bits *b)
{
    if (!UNLIKELY(b->end - b->at < 8)) {
        uint64_t word;
        memcpy(&word, b->data + b->at, 8);
        b->bits |= __builtin_bswap64(word) >> b->have;
        b->at += (63 - b->have) >> 3;
        b->have |= 56;
    } else {
        for (; b->have < 56; b->have += 8, b->at++)
            b->bits |= (uint64_t)(b->at < b->end ? b->data[b->at] : 0) << (56 - b->have);
    }
}

/* The next 1 to 32 bits, of which there are enough. */
static inline uint32_t take(Bits *b, int n)
{
    uint32_t value = (uint32_t)(b->bits >> (64 - n));
    b->bits <<= n;
    b->have -= n;
    return value;
}

/* A coded number that goes on beyond the bits at hand; 0 if the data end before. */
static int take_long(Bits *b, int low, uint32_t *coded)
{
    uint32_t zeros = 0, more;
    for (refill(b); b->bits >> 8 == 0; refill(b)) {
        if (b->at > b->end)
            return 0;
        zeros += 56;
        b->bits <<= 56;
        b->have -= 56;
    }
    more = (uint32_t)__builtin_clzll(b->bits);
    b->bits <<= more;
    b->have -= (int)more;
    refill(b);
    take(b, 1);
    *coded = (zeros + more) << low | (low ? take(b, low) : 0);
    return 1;
}

/* The n whole numbers of a tile; 0 if the data are no such tile's. Bytes up to readable may be looked at. */
static int unpack(const uint8_t *data, int64_t length, int64_t readable, int64_t n, int64_t block, int32_t *out)
{
    if (length < 4)
        return 0;
    Bits b = {data, 0, readable, 0, 0};
    refill(&b);
    uint32_t last = take(&b, 32);
    for (int64_t i = 0; i < n;) {
        int64_t stop = n - i < block ? n : i + block;
        refill(&b);
        int low = (int)take(&b, FS_BITS) - 1;
        if (low > FS_DIRECT)
            return 0;
        for (; i < stop; i++) {
            uint32_t coded = 0;
            if (low == FS_DIRECT) {
                refill(&b);
                coded = take(&b, 32);
            } else if (low >= 0) {
                if (i & 1) /* the bits of two numbers are mostly at hand */
                    refill(&b);
                int zeros = b.bits ? __builtin_clzll(b.bits) : 64;
                if (UNLIKELY(zeros + 1 + low > b.have)) {
                    if (!take_long(&b, low, &coded))
                        return 0;
                } else {
                    coded = (uint32_t)(b.bits << zeros >> (63 - low)) + ((uint32_t)(zeros - 1) << low);
                    b.bits = b.bits << zeros << (low + 1);
                    b.have -= zeros + 1 + low;
                }
            }
            last += (coded >> 1) ^ -(coded & 1);
            out[i] = (int32_t)last;
        }
        if (b.at * 8 - b.have > length * 8)
            return 0;
    }
    return (b.at * 8 - b.have + 7) / 8 == length; /* cfitsio, too, minds bytes that are left */
}

/* The random number for a pixel of a tile, and how many follow it up to the end of the sequence. */
static const float *dither(const Image *image, int64_t tile, int64_t pixel, int64_t *run)
{
    int64_t seed = (image->seed + tile) % N_RANDOM, next;
    while (pixel >= N_RANDOM - (next = (int64_t)(image->random[seed] * 500))) {
        pixel -= N_RANDOM - next;
        seed = (seed + 1) % N_RANDOM;
    }
    *run = N_RANDOM - next - pixel;
    return image->random + next + pixel;
}

static void convert(const int32_t *from, int64_t n, const Image *image, const Tile *tile, const float *random, float *to)
{
    const double scale = tile->scale, zero = tile->zero;
    if (image->method == 0)
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)((double)from[i] * scale + zero);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)(((double)from[i] - random[i] + 0.5) * scale + zero);
    const int32_t blank = image->blank == (int32_t)image->blank ? (int32_t)image->blank : ZERO_VALUE;
    int special = 0;
    for (int64_t i = 0; i < n; i++)
        special |= (from[i] == ZERO_VALUE) | (from[i] == blank);
    for (int64_t i = 0; special && i < n; i++) {
        if (from[i] == image->blank)
            to[i] = __builtin_nanf("");
        else if (from[i] == ZERO_VALUE && image->method == 2)
            to[i] = 0;
    }
}

static int64_t count_bad(const float *pixels, int64_t n, float nodata)
{
    int32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, pixels + i, 4);
        bad += ((bits & 0x7f800000) == 0x7f800000) | (pixels[i] == nodata);
    }
    return bad;
}

/* Give pixels to a window. */
static inline void put(const float *pixels, int64_t n, float *out, const Windows *w, int64_t k)
{
    w->bad[k] += count_bad(pixels, n, (float)w->nodata);
    for (int64_t i = 0; i < n; i++)
        out[i * w->pixel] = pixels[i];
}

/* Copy what a window has of one row of a tile. */
static void copy_row(
    const Image *image, int64_t number, const Tile *tile, const int32_t *from, int64_t pixel, int64_t n, float *out,
    const Windows *w, int64_t k)
{
    float piece[PIECE];
    while (n > 0) {
        int64_t run = n;
        const float *random = image->method ? dither(image, number, pixel, &run) : 0;
        run = run < n ? run : n;
        run = run < PIECE ? run : PIECE;
        convert(from + pixel, run, image, tile, random, piece);
        put(piece, run, out, w, k);
        pixel += run;
        out += run * w->pixel;
        n -= run;
    }
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Copy all windows. Returns -1, or the number of a tile that is corrupt. Unpacked takes the pixels of a tile. */
int64_t rice_cut_2(const Image *image, const Windows *w, int32_t *unpacked)
{
    const int64_t across = (image->width + image->columns - 1) / image->columns;
    for (int64_t begin = 0, end = 0, row = image->first; row < image->last; row++) {
        /* windows from begin to end - 1 have pixels in this row of tiles */
        const int64_t top = row * image->rows, bottom = least(top + image->rows, image->height);
        while (begin < w->n && w->y0[begin] + w->height <= top)
            begin++;
        while (end < w->n && w->y0[end] < bottom)
            end++;
        for (int64_t column = 0; begin < end && column < across; column++) {
            const int64_t left = column * image->columns, right = least(left + image->columns, image->width);
            const int64_t columns = right - left, number = row * across + column;
            const Tile *tile = image->tiles + (number - image->first * across);
            int ready = 0;
            for (int64_t k = begin; k < end; k++) {
                const int64_t x0 = most(w->x0[k], left), x1 = least(w->x0[k] + w->width, right);
                if (x0 >= x1)
                    continue;
                if (!ready) {
                    if (tile->offset < 0 || tile->length < 0 || tile->offset > image->heap_bytes - tile->length)
                        return number;
                    if (!unpack(image->heap + tile->offset, tile->length, image->heap_bytes - tile->offset,
                                (bottom - top) * columns, image->block, unpacked))
                        return number;
                    ready = 1;
                }
                if (k + 2 < end) /* windows are far from each other: fetch one that comes soon */
                    for (int64_t i = 0; i < w->width * w->pixel; i += 16)
                        __builtin_prefetch(w->out + w->at[k + 2] + (most(w->y0[k], top) - w->y0[k + 2]) * w->row + i, 1);
                for (int64_t y = most(w->y0[k], top); y < least(w->y0[k] + w->height, bottom); y++)
                    copy_row(image, number, tile, unpacked, (y - top) * columns + x0 - left, x1 - x0,
                             w->out + w->at[k] + (y - w->y0[k]) * w->row + (x0 - w->x0[k]) * w->pixel, w, k);
            }
        }
    }
    return -1;
}

/* Copy all windows of an image that is not compressed: big-endian numbers in the heap. Returns 0 if it is not that large. */
int64_t plain_cut_2(const Image *image, const Windows *w)
{
    if (image->heap_bytes / 4 / image->width < image->height)
        return 0;
    for (int64_t k = 0; k < w->n; k++) {
        const int64_t first = most(w->x0[k], 0), end = least(w->x0[k] + w->width, image->width);
        for (int64_t y = most(w->y0[k], 0); y < least(w->y0[k] + w->height, image->height); y++)
            for (int64_t x = first, n; x < end; x += n) {
                const uint8_t *from = image->heap + 4 * (y * image->width + x);
                float piece[PIECE];
                n = least(end - x, PIECE);
                for (int64_t i = 0; i < n; i += 16) /* rows are far from each other: fetch one that comes soon */
                    __builtin_prefetch(from + 4 * (6 * image->width + i));
                for (int64_t i = 0; i < n; i++) {
                    uint32_t bits;
                    memcpy(&bits, from + 4 * i, 4);
                    bits = __builtin_bswap32(bits);
                    memcpy(piece + i, &bits, 4);
                }
                put(piece, n, w->out + w->at[k] + (y - w->y0[k]) * w->row + (x - w->x0[k]) * w->pixel, w, k);
            }
    }
    return 1;
}
