/* The detections of images, by greedy non-maximum suppression, class by class. The arithmetic of overlaps is that of
   `nms.box_iou`, operation by operation. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* boxes: n x 4, x1 y1 x2 y2, best first. Writes the positions of those that stay, and returns how many; -1 without memory. */
long greedy(const float *boxes, const long *classes, long n, float iou, long most, long *kept) {
    const long room = most < n ? most : n;
    float *x1 = malloc((room + 1) * 5 * sizeof(float)), *y1 = x1 + room, *x2 = y1 + room, *y2 = x2 + room, *area = y2 + room;
    long *of = malloc((room + 1) * sizeof(long)), count = 0;
    if (!x1 || !of) return free(x1), free(of), -1;
    for (long i = 0; i < n && count < room; i++) {
        const float *b = boxes + 4 * i;
        const float own = (b[2] - b[0]) * (b[3] - b[1]);
        int beaten = 0;
        for (long first = 0; first < count && !beaten; first += 64) { /* in blocks, to end early and still go over many at once */
            const long last = first + 64 < count ? first + 64 : count;
#pragma omp simd reduction(| : beaten)
            for (long j = first; j < last; j++) {
                float width = (b[2] < x2[j] ? b[2] : x2[j]) - (b[0] > x1[j] ? b[0] : x1[j]);
                float height = (b[3] < y2[j] ? b[3] : y2[j]) - (b[1] > y1[j] ? b[1] : y1[j]);
                const float both = (width > 0 ? width : 0) * (height > 0 ? height : 0);
                const float all = own + area[j] - both;
                beaten |= (all > 0) & (both / all > iou) & (of[j] == classes[i]);
            }
        }
        if (beaten) continue;
        x1[count] = b[0], y1[count] = b[1], x2[count] = b[2], y2[count] = b[3], area[count] = own, of[count] = classes[i];
        kept[count++] = i;
    }
    free(x1), free(of);
    return count;
}

static inline uint32_t bits(float value) {
    uint32_t as;
    memcpy(&as, &value, 4);
    return as;
}

/* Where n positive numbers come in order, the largest first, and equal ones as they came: a radix sort of their bits. */
static void sort_down(const float *values, uint32_t *order, uint32_t *spare, long n) {
    enum { BITS = 11, DIGITS = 1 << BITS };
    for (long i = 0; i < n; i++) order[i] = (uint32_t)i;
    for (int shift = 0; shift < 32; shift += BITS) {
        long start[DIGITS + 1] = {0};
        for (long i = 0; i < n; i++) start[(~bits(values[i]) >> shift) % DIGITS + 1]++;
        for (int digit = 0; digit < DIGITS; digit++) start[digit + 1] += start[digit];
        for (long i = 0; i < n; i++) spare[start[(~bits(values[order[i]]) >> shift) % DIGITS]++] = order[i];
        memcpy(order, spare, n * sizeof *order);
    }
}

/* One image's detections: up to `most` rows of x1 y1 x2 y2, score, class; returns how many, -1 without memory. */
static long detect(const float *prediction, long anchors, long classes, float conf, float iou, long candidates, long most, float *rows) {
    const long width = 4 + classes;
    long n = 0, count = -1;
    for (long a = 0; a < anchors; a++)
        for (long c = 0; c < classes; c++) n += prediction[a * width + 4 + c] > conf;
    const long best = n < candidates ? n : candidates;
    float *score = malloc((n + 1) * sizeof(float)), *boxes = malloc((best + 1) * 4 * sizeof(float));
    uint32_t *place = malloc((n + 1) * 3 * sizeof(uint32_t)), *order = place + n, *spare = order + n;
    long *of = malloc((best + 1) * 2 * sizeof(long)), *kept = of + best;
    if (score && boxes && place && of) {
        n = 0;
        for (long a = 0; a < anchors; a++)
            for (long c = 0; c < classes; c++)
                if (prediction[a * width + 4 + c] > conf) score[n] = prediction[a * width + 4 + c], place[n++] = (uint32_t)(a * classes + c);
        sort_down(score, order, spare, n);
        for (long i = 0; i < best; i++) {
            memcpy(boxes + 4 * i, prediction + place[order[i]] / classes * width, 4 * sizeof(float));
            of[i] = place[order[i]] % classes;
        }
        count = greedy(boxes, of, best, iou, most, kept);
        for (long i = 0; i < count; i++, rows += 6) {
            memcpy(rows, boxes + 4 * kept[i], 4 * sizeof(float));
            rows[4] = score[order[kept[i]]], rows[5] = (float)of[kept[i]];
        }
    }
    free(score), free(boxes), free(place), free(of);
    return count;
}

/* predictions: images x anchors x (4 + classes); rows: images x most x 6; counts: those of each image, -1 without memory. */
void detections(
    const float *predictions, long images, long anchors, long classes, float conf, float iou, long candidates, long most,
    float *rows, long *counts, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (long k = 0; k < images; k++) {
        const float *prediction = predictions + k * anchors * (4 + classes);
        counts[k] = detect(prediction, anchors, classes, conf, iou, candidates, most, rows + k * most * 6);
    }
}
