/* Training images from photographs, each pixel looked up where it lies: mosaic, affine or perspective, flips and colours in
   one pass. The arithmetic is that of OpenCV's warps and colour conversions (see host_augment.py), pixel by pixel, so
   nothing depends on the number of threads.

   A row of the output is made in pieces of WIDTH pixels: where they are on the canvas, what lies there (the one part
   that does not go over many at once), what is between it, and its colours. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { WIDTH = 64, BAND = 32, AHEAD = 4 }; /* pixels at once; rows that a thread takes at a time; rows that memory is asked ahead */
enum { GREY = 114 << 16 | 114 << 8 | 114 };
enum { SEVERAL = -1, NOWHERE = -2 }; /* in place of a quarter: of more than one, or at an edge; in grey alone */

typedef struct {
    int center[2];            /* x and y of the first column and row of the right and the lower quarters */
    int outer[4][2];          /* x and y of each photograph's outer edge: its first, or one past its last */
    const uint8_t *origin[4]; /* where the canvas's (0, 0) would be, if a photograph went on until there */
    long pitch[4];            /* bytes from one row of a photograph to the next */
    float inverse[9];         /* from pixels of the output to those of the canvas */
    float colour[3];          /* hue shift (fraction of the circle), gains of saturation and value around 0 */
} Image;

typedef struct { /* of WIDTH pixels */
    float right[WIDTH], low[WIDTH];              /* shares of the right and the lower neighbours */
    int32_t x[WIDTH], y[WIDTH], quarter[WIDTH];  /* of the upper left neighbour; the quarter of all four */
    uint64_t upper[WIDTH], lower[WIDTH];         /* the neighbours' bytes: RGB of the left one, then of the right one */
    float red[WIDTH], green[WIDTH], blue[WIDTH]; /* whole numbers */
} Piece;

static inline uint64_t word(const uint8_t *p) {
    uint64_t value;
    memcpy(&value, p, 8);
    return value;
}

static uint32_t pixel(const Image *of, int x, int y) {
    const int right = x >= of->center[0], low = y >= of->center[1], k = 2 * low + right;
    if ((x >= of->outer[k][0]) == right || (y >= of->outer[k][1]) == low) return GREY;
    const uint8_t *p = of->origin[k] + y * of->pitch[k] + 3L * x;
    return p[0] | p[1] << 8 | p[2] << 16;
}

static inline void locate(Piece *restrict p, const Image *of, int first, int row, int size, const int perspective) {
    const float v = row, end = 2 * size + 1; /* no canvas is wider: what is far outside is as grey as what is near */
    const float *m = of->inverse, m0 = m[0], m3 = m[3], m6 = m[6];
    const float x0 = m[1] * v + m[2], y0 = m[4] * v + m[5], z0 = m[7] * v + m[8];
    float xs[WIDTH], ys[WIDTH];
    /* several loops, as compilers can make vectors of these */
#pragma omp simd
    for (int k = 0; k < WIDTH; k++) {
        const float u = first + k;
        float x = m0 * u + x0, y = m3 * u + y0;
        if (perspective) {
            const float depth = m6 * u + z0;
            x /= depth, y /= depth;
        }
        x = x > -2 ? x : -2, y = y > -2 ? y : -2; /* NaN, too */
        xs[k] = x < end ? x : end, ys[k] = y < end ? y : end;
    }
#pragma omp simd
    for (int k = 0; k < WIDTH; k++) {
        const float left = __builtin_floorf(xs[k]), top = __builtin_floorf(ys[k]);
        p->right[k] = xs[k] - left, p->low[k] = ys[k] - top;
        p->x[k] = (int)left, p->y[k] = (int)top;
    }
    const int cx = of->center[0], cy = of->center[1];
    const int x00 = of->outer[0][0], x01 = of->outer[1][0], x10 = of->outer[2][0], x11 = of->outer[3][0];
    const int y00 = of->outer[0][1], y01 = of->outer[1][1], y10 = of->outer[2][1], y11 = of->outer[3][1];
#pragma omp simd
    for (int k = 0; k < WIDTH; k++) {
        const int x = p->x[k], y = p->y[k];
        const int left = y >= cy ? x10 : x00, right = y >= cy ? x11 : x01; /* outer edges at this height, */
        const int upper = x >= cx ? y01 : y00, lower = x >= cx ? y11 : y10; /* and at this place across */
        const int first_x = x >= cx ? cx : left, end_x = x >= cx ? right : cx;
        const int first_y = y >= cy ? cy : upper, end_y = y >= cy ? lower : cy;
        int quarter = (x >= cx ? 1 : 0) + (y >= cy ? 2 : 0);
        quarter = x < first_x ? SEVERAL : quarter;
        quarter = y < first_y ? SEVERAL : quarter;
        quarter = x + 1 >= end_x ? SEVERAL : quarter;
        quarter = y + 1 >= end_y ? SEVERAL : quarter;
        /* a word reaches two bytes past its pixels, which may be past the photograph after its last one */
        const int not_last = x + 2 >= end_x ? SEVERAL : quarter;
        quarter = y + 2 >= end_y ? not_last : quarter;
        /* beside the photograph, and not at the quarter's end, where another one begins */
        int beside = x + 1 < first_x ? NOWHERE : quarter;
        beside = y + 1 < first_y ? NOWHERE : beside;
        beside = x >= end_x ? NOWHERE : beside;
        beside = y >= end_y ? NOWHERE : beside;
        beside = x + 1 == cx ? quarter : beside;
        p->quarter[k] = y + 1 == cy ? quarter : beside;
    }
}

static inline long whole(float x) { return x > -1000 && x < 1000 ? (long)x : 0; }

static inline void gather(Piece *p, const Image *of) {
    /* where, from a pixel, AHEAD rows of the output later is looked up; with perspective it is a guess */
    const long across = 3 * whole(AHEAD * of->inverse[1]), down = whole(AHEAD * of->inverse[4]);
    for (int k = 0; k < WIDTH; k++) {
        const int x = p->x[k], y = p->y[k], quarter = p->quarter[k];
        if (quarter >= 0) {
            const long pitch = of->pitch[quarter];
            const uint8_t *at = of->origin[quarter] + y * pitch + 3L * x;
            __builtin_prefetch(at + down * pitch + across);
            p->upper[k] = word(at), p->lower[k] = word(at + pitch);
        } else if (quarter == NOWHERE) {
            p->upper[k] = p->lower[k] = GREY | (uint64_t)GREY << 24;
        } else {
            p->upper[k] = pixel(of, x, y) | (uint64_t)pixel(of, x + 1, y) << 24;
            p->lower[k] = pixel(of, x, y + 1) | (uint64_t)pixel(of, x + 1, y + 1) << 24;
        }
    }
}

static inline float between(const Piece *p, int k, int shift) {
    const float a = (int)(p->upper[k] >> shift & 255), b = (int)(p->upper[k] >> (shift + 24) & 255);
    const float c = (int)(p->lower[k] >> shift & 255), d = (int)(p->lower[k] >> (shift + 24) & 255);
    const float above = a + p->right[k] * (b - a), below = c + p->right[k] * (d - c);
    return __builtin_rintf(above + p->low[k] * (below - above));
}

static inline void blend(Piece *p) {
#pragma omp simd
    for (int k = 0; k < WIDTH; k++) {
        p->red[k] = between(p, k, 0), p->green[k] = between(p, k, 8), p->blue[k] = between(p, k, 16);
    }
}

static inline float least(float a, float b) { return a < b ? a : b; }
static inline float most(float a, float b) { return a > b ? a : b; }
static inline float scaled(float x, float gain) { return __builtin_floorf(least(most(x * (1 + gain), 0), 255)); }

/* `times * part / whole` to the nearest whole number, with 12 bits after the point; 0 for nothing of nothing. */
static inline int ratio(int part, float times, float whole) {
    return (part * (int)__builtin_rintf(4096 * times / most(whole, 1)) + 2048) >> 12;
}

/* A channel: how far it lies below the value, by where in the circle the hue is, counted from a sixth of its own. */
static inline float channel(float sixth, float rest, float from, float saturation, float value) {
    float place = sixth + from;
    place = place >= 6 ? place - 6 : place;
    const float depth = place < 1 ? rest : place < 3 ? 1 : place < 4 ? 1 - rest : 0;
    return __builtin_floorf(value * (1 - saturation * depth) * 255);
}

static inline void shift_colours(Piece *p, const float *colour) {
    const float shift = 180 * colour[0];
#pragma omp simd
    for (int k = 0; k < WIDTH; k++) {
        const float r = p->red[k], g = p->green[k], b = p->blue[k];
        float value = most(most(r, g), b), spread = value - least(least(r, g), b);
        const float part = value == r ? g - b : value == g ? b - r + 2 * spread : r - g + 4 * spread;
        float hue = ratio((int)part, 30, spread) + shift; /* in 180 parts of the circle */
        hue = __builtin_floorf(hue - 180 * __builtin_floorf(hue / 180));
        const float saturation = scaled(ratio((int)spread, 255, value), colour[1]) * (1.0f / 255);
        value = scaled(value, colour[2]) * (1.0f / 255);
        const float sixths = hue * (6.0f / 180), sixth = __builtin_floorf(sixths), rest = sixths - sixth;
        p->red[k] = channel(sixth, rest, 5, saturation, value);
        p->green[k] = channel(sixth, rest, 3, saturation, value);
        p->blue[k] = channel(sixth, rest, 1, saturation, value);
    }
}

static inline void put(const Piece *p, uint8_t *to, int width) {
    for (int k = 0; k < width; k++) {
        to[3 * k] = (uint8_t)p->red[k], to[3 * k + 1] = (uint8_t)p->green[k], to[3 * k + 2] = (uint8_t)p->blue[k];
    }
}

/* Make `count` images of side `size`, one after another: (count, size, size, 3) RGB. */
void make(const Image *images, long count, int size, int perspective, int coloured, uint8_t *to, int threads) {
    const int bands = (size + BAND - 1) / BAND;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (long band = 0; band < count * bands; band++) {
        const Image *of = images + band / bands;
        const int first = band % bands * BAND, end = first + BAND < size ? first + BAND : size;
        Piece p;
        for (int row = first; row < end; row++) {
            uint8_t *out = to + ((band / bands * size + row) * size) * 3L;
            for (int column = 0; column < size; column += WIDTH) {
                const int width = size - column < WIDTH ? size - column : WIDTH;
                if (perspective) locate(&p, of, column, row, size, 1);
                else locate(&p, of, column, row, size, 0);
                gather(&p, of);
                blend(&p);
                if (coloured) shift_colours(&p, of->colour);
                put(&p, out + 3 * column, width);
            }
        }
    }
}

/* Change the colours of `count` images of so many pixels where they are. */
void recolour(const Image *images, long count, long pixels, uint8_t *to, int threads) {
    const long bands = (pixels + WIDTH - 1) / WIDTH;
#pragma omp parallel for num_threads(threads)
    for (long band = 0; band < count * bands; band++) {
        const long first = band % bands * WIDTH;
        const int width = pixels - first < WIDTH ? (int)(pixels - first) : WIDTH;
        uint8_t *at = to + (band / bands * pixels + first) * 3;
        Piece p = {0};
        for (int k = 0; k < width; k++) p.red[k] = at[3 * k], p.green[k] = at[3 * k + 1], p.blue[k] = at[3 * k + 2];
        shift_colours(&p, images[band / bands].colour);
        put(&p, at, width);
    }
}
