/* Greedy non-maximum suppression, class by class. The arithmetic is that of `nms.box_iou`, operation by operation. */

#include <stdlib.h>

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
