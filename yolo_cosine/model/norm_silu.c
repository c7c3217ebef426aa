/* Batch norm and the SiLU after it, for training, in as few passes over memory as there can be.

   The images are rows of channels (channels last), `rows` x `channels`, contiguous, float32 or bf16; all else is
   float32. Sums are taken over chunks of rows and then over the chunks in their order, in double, so that they do not
   depend on the number of threads. Included twice, once for each type of pixel. */

#ifndef PIXEL

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { LANES = 16, WIDTH = 256, CHUNK = 16384 }; /* floats in a vector, in an inner loop (at least), in a chunk (about) */

/* e^x to 2 units in the last place: 2^n e^r with |r| <= ln(2)/2, and Taylor's polynomial for e^r. NaN stays NaN. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 87.0f ? 87.0f : x;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest whole number */
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;   /* ln(2) in two parts */
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

/* s = 1 / (1 + e^-u), for n floats; there is room for a multiple of LANES. Where `exact` is not set, to 13 bits. */
static inline void sigmoids(const float *restrict u, float *restrict s, long n, const int exact) {
#ifdef __AVX512F__
#define EACH(x) _mm512_set1_ps(x)
    for (long v = 0; v < n; v += LANES) {
        /* e^-u = 2^t. The bound keeps 1 / (1 + 2^t) above zero; in this order of the two a NaN goes through. */
        __m512 t = _mm512_min_ps(EACH(126.0f), _mm512_mul_ps(_mm512_loadu_ps(u + v), EACH(-1.44269504f)));
        const __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        t = _mm512_sub_ps(t, whole);
        __m512 p = EACH(9.6181291e-3f); /* Taylor's polynomial for 2^t: ln(2)^k / k! */
        if (exact) {
            p = _mm512_fmadd_ps(EACH(1.5403530e-4f), t, EACH(1.3333558e-3f));
            p = _mm512_fmadd_ps(p, t, EACH(9.6181291e-3f));
        }
        p = _mm512_fmadd_ps(p, t, EACH(5.5504109e-2f));
        p = _mm512_fmadd_ps(p, t, EACH(2.4022651e-1f));
        p = _mm512_fmadd_ps(p, t, EACH(6.9314718e-1f));
        p = _mm512_fmadd_ps(p, t, EACH(1.0f));
        const __m512 d = _mm512_add_ps(EACH(1.0f), _mm512_scalef_ps(p, whole));
        __m512 r = _mm512_rcp14_ps(d);
        if (exact) r = _mm512_mul_ps(r, _mm512_fnmadd_ps(d, r, EACH(2.0f))); /* a step of Newton's method */
        _mm512_storeu_ps(s + v, r);
    }
#undef EACH
#else
    (void)exact;
#pragma omp simd
    for (long v = 0; v < n; v++) s[v] = 1.0f / (1.0f + exponential(-u[v]));
#endif
}

static inline float slope(float u, float s) { return s * (1.0f + u * (1.0f - s)); } /* of the SiLU */

static inline float get_float32(float x) { return x; }

static inline float get_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint16_t to_bf16(float x) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint16_t rounded = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    return x != x ? 0x7fc0 : rounded;
}

static inline void put_float32(const float *restrict from, float *restrict to, long n) { memcpy(to, from, n * sizeof *to); }

static inline void put_bf16(const float *restrict from, uint16_t *restrict to, long n) {
    long first = 0;
#ifdef __AVX512BF16__ /* takes numbers below 2^-126 for zero */
    for (; first + LANES <= n; first += LANES) {
        const __m256bh packed = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + first));
        memcpy(to + first, &packed, sizeof packed);
    }
#endif
#pragma omp simd
    for (long v = first; v < n; v++) to[v] = to_bf16(from[v]);
}

/* Channels that a loop goes over at once: those of several rows where there are few. */
static long folded(long channels) { return channels * (channels < WIDTH ? WIDTH / channels : 1); }

static void repeat(float *to, const float *from, long channels, long width) {
    for (long v = 0; v < width; v++) to[v] = from[v % channels];
}

#define PIXEL float
#define NAME(x) x##_float32
#define EXACT 1
#include "norm_silu.c"
#undef PIXEL
#undef NAME
#undef EXACT
#define PIXEL uint16_t
#define NAME(x) x##_bf16
#define EXACT 0 /* of 8 bits more would be lost */
#include "norm_silu.c"

#else

/* z = act(x * scale + shift), with scale = weight * deviation, shift = bias - mean * scale.
   mean: of each channel. variance: of each channel, around it (biased). Returns 0, or 1 without memory. */
int NAME(forward)(const PIXEL *restrict x, PIXEL *restrict z, const float *weight, const float *bias, float *mean,
                  float *variance, long rows, long channels, float eps, int silu, int threads) {
    const long width = folded(channels), step = (CHUNK / width + 1) * (width / channels);
    const long chunks = (rows + step - 1) / step;
    double *sums = malloc(2 * chunks * channels * sizeof(double));
    float *scale = malloc(2 * (width + channels) * sizeof(float));
    if (!sums || !scale) return free(sums), free(scale), 1;
    float *shift = scale + width, *one_scale = shift + width, *one_shift = one_scale + channels;

#pragma omp parallel for num_threads(threads) schedule(static)
    for (long k = 0; k < chunks; k++) {
        const long first = k * step, last = first + step < rows ? first + step : rows, count = (last - first) * channels;
        const PIXEL *restrict here = x + first * channels;
        float sum[width], middle[width];
        for (long v = 0; v < width; v++) sum[v] = 0;
        for (long i = 0; i < count; i += width) {
            const long n = count - i < width ? count - i : width;
#pragma omp simd
            for (long v = 0; v < n; v++) sum[v] += NAME(get)(here[i + v]);
        }
        for (long c = 0; c < channels; c++) {
            double total = 0;
            for (long v = c; v < width; v += channels) total += sum[v];
            sums[2 * k * channels + c] = total / (last - first);
        }
        for (long v = 0; v < width; v++) middle[v] = (float)sums[2 * k * channels + v % channels], sum[v] = 0;
        for (long i = 0; i < count; i += width) {
            const long n = count - i < width ? count - i : width;
#pragma omp simd
            for (long v = 0; v < n; v++) {
                float d = NAME(get)(here[i + v]) - middle[v];
                sum[v] += d * d;
            }
        }
        for (long c = 0; c < channels; c++) {
            double total = 0;
            for (long v = c; v < width; v += channels) total += sum[v];
            sums[(2 * k + 1) * channels + c] = total;
        }
    }
    for (long c = 0; c < channels; c++) { /* Chan, Golub and LeVeque 1983, over the chunks */
        double total = 0, squares = 0;
        for (long k = 0; k < chunks; k++) {
            const long n = (k + 1) * step < rows ? step : rows - k * step;
            total += sums[2 * k * channels + c] * n;
        }
        const double m = total / rows;
        for (long k = 0; k < chunks; k++) {
            const long n = (k + 1) * step < rows ? step : rows - k * step;
            const double d = sums[2 * k * channels + c] - m;
            squares += sums[(2 * k + 1) * channels + c] + n * d * d;
        }
        mean[c] = (float)m;
        variance[c] = (float)(squares / rows);
        one_scale[c] = (float)(weight[c] / sqrt(squares / rows + eps));
        one_shift[c] = (float)(bias[c] - m * one_scale[c]);
    }
    repeat(scale, one_scale, channels, width);
    repeat(shift, one_shift, channels, width);

#pragma omp parallel for num_threads(threads) schedule(static)
    for (long k = 0; k < chunks; k++) {
        const long first = k * step, last = first + step < rows ? first + step : rows, count = (last - first) * channels;
        const PIXEL *restrict from = x + first * channels;
        PIXEL *restrict to = z + first * channels;
        float u[width + LANES], s[width + LANES];
        for (long v = 0; v < width + LANES; v++) u[v] = 0;
        for (long i = 0; i < count; i += width) {
            const long n = count - i < width ? count - i : width;
#pragma omp simd
            for (long v = 0; v < n; v++) u[v] = NAME(get)(from[i + v]) * scale[v] + shift[v];
            if (silu) {
                sigmoids(u, s, n, EXACT);
#pragma omp simd
                for (long v = 0; v < n; v++) u[v] *= s[v];
            }
            NAME(put)(u, to + i, n);
        }
    }
    free(sums), free(scale);
    return 0;
}

/* Gradients of `forward`, from its input, its statistics and the gradient `dz` of its output. */
int NAME(backward)(const PIXEL *restrict x, const PIXEL *restrict dz, PIXEL *restrict dx, const float *weight,
                   const float *bias, const float *mean, const float *variance, float *dweight, float *dbias, long rows,
                   long channels, float eps, int silu, int threads) {
    const long width = folded(channels), step = (CHUNK / width + 1) * (width / channels);
    const long chunks = (rows + step - 1) / step;
    double *sums = malloc(2 * chunks * channels * sizeof(double));
    float *scale = malloc(5 * (width + channels) * sizeof(float));
    if (!sums || !scale) return free(sums), free(scale), 1;
    float *shift = scale + width, *middle = shift + width, *even = middle + width, *tilt = even + width;
    float *one[5];
    for (int j = 0; j < 5; j++) one[j] = scale + 5 * width + j * channels;
    for (long c = 0; c < channels; c++) {
        one[0][c] = (float)(weight[c] / sqrt((double)variance[c] + eps));
        one[1][c] = bias[c] - mean[c] * one[0][c];
    }
    repeat(scale, one[0], channels, width);
    repeat(shift, one[1], channels, width);
    repeat(middle, mean, channels, width);

#pragma omp parallel for num_threads(threads) schedule(static)
    for (long k = 0; k < chunks; k++) {
        const long first = k * step, last = first + step < rows ? first + step : rows, count = (last - first) * channels;
        const PIXEL *restrict here = x + first * channels, *restrict grad = dz + first * channels;
        PIXEL *restrict to = dx + first * channels;
        float sum[width], product[width], u[width + LANES], s[width + LANES];
        for (long v = 0; v < width; v++) sum[v] = product[v] = 0;
        for (long v = 0; v < width + LANES; v++) u[v] = 0;
        for (long i = 0; i < count; i += width) {
            const long n = count - i < width ? count - i : width;
            if (silu) {
#pragma omp simd
                for (long v = 0; v < n; v++) u[v] = NAME(get)(here[i + v]) * scale[v] + shift[v];
                sigmoids(u, s, n, EXACT);
            }
#pragma omp simd
            for (long v = 0; v < n; v++) {
                const float value = NAME(get)(here[i + v]), d = NAME(get)(grad[i + v]) * (silu ? slope(u[v], s[v]) : 1.0f);
                s[v] = d;
                sum[v] += d;
                product[v] += d * (value - middle[v]);
            }
            NAME(put)(s, to + i, n);
        }
        for (long c = 0; c < channels; c++) {
            double total = 0, products = 0;
            for (long v = c; v < width; v += channels) total += sum[v], products += product[v];
            sums[2 * k * channels + c] = total;
            sums[(2 * k + 1) * channels + c] = products;
        }
    }
    for (long c = 0; c < channels; c++) {
        double total = 0, products = 0;
        for (long k = 0; k < chunks; k++) {
            total += sums[2 * k * channels + c];
            products += sums[(2 * k + 1) * channels + c];
        }
        const double deviation = 1 / sqrt((double)variance[c] + eps);
        dbias[c] = (float)total;
        dweight[c] = (float)(products * deviation);
        one[3][c] = (float)(one[0][c] * total / rows);
        one[4][c] = (float)(one[0][c] * products * deviation * deviation / rows);
    }
    repeat(even, one[3], channels, width);
    repeat(tilt, one[4], channels, width);

#pragma omp parallel for num_threads(threads) schedule(static)
    for (long k = 0; k < chunks; k++) {
        const long first = k * step, last = first + step < rows ? first + step : rows, count = (last - first) * channels;
        const PIXEL *restrict here = x + first * channels;
        PIXEL *restrict to = dx + first * channels; /* of the norm's output, so far */
        float u[width];
        for (long i = 0; i < count; i += width) {
            const long n = count - i < width ? count - i : width;
#pragma omp simd
            for (long v = 0; v < n; v++) {
                const float value = NAME(get)(here[i + v]), d = NAME(get)(to[i + v]);
                u[v] = d * scale[v] - even[v] - (value - middle[v]) * tilt[v];
            }
            NAME(put)(u, to + i, n);
        }
    }
    free(sums), free(scale);
    return 0;
}

#endif
