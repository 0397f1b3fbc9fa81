// One pass of MobileStyleGAN on a CPU: activate, scale, double the resolution where asked, convolve each channel.
// Features are bfloat16, channels last; everything is computed in float32. See fused_synthesis.py.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <vector>

namespace {

constexpr long LANES = 16;    // channels at once
constexpr long BLOCK = 256;   // channels of the rows that are kept in the second-level cache
constexpr float SLOPE = 0.2f; // of the leaky ReLU

typedef float Floats __attribute__((vector_size(4 * LANES)));

inline Floats load(const float *from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

inline void store(float *to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline Floats load_bfloat16(const uint16_t *from) {
  return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
}

inline void store_bfloat16(uint16_t *to, Floats values) {
  __m256bh halves = _mm512_cvtneps_pbh((__m512)values);
  std::memcpy(to, &halves, sizeof halves);
}

inline Floats activate(Floats values, Floats added, Floats scale) {
  values += added;
  Floats small = SLOPE * values;
  return (Floats)_mm512_max_ps((__m512)values, (__m512)small) * scale;
}

} // namespace

extern "C" {

struct Features { // (N, H, W, C): the distance of images, rows and pixels in elements
  const uint16_t *data;
  long image, row, pixel;
};

struct Noise { // (H, W), of all images
  const float *data;
  long row;
};

// result = depthwise 3x3, zero-padded, of haar(scale * leaky_relu(x + noise + bias)). `doubled`: x has 4 C channels (LL, V, H, D) at half
// of the result's height and width, as does the noise; else haar is left out. scale (N, C or 4 C), `scale_image` apart; kernel (9, C).
// C is a multiple of 16. result (N, H, W, C).
void activate_and_convolve(Features x, Noise noise, const float *bias, const uint16_t *scale, long scale_image, const float *kernel,
                           uint16_t *result, long count, long height, long width, long channels, long doubled, long threads) {
  const long strip = ((height + threads - 1) / threads + 1) / 2 * 2;
  const long strips = (height + strip - 1) / strip;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (long part = 0; part < count * strips; part++) {
    const long n = part / strips, top = part % strips * strip, bottom = std::min(top + strip, height);
    for (long first = 0; first < channels; first += BLOCK) {
      const long block = std::min(BLOCK, channels - first), line = (width + 2) * block;
      std::vector<float> rows(7 * line); // six rows in turn, and one of zeros beyond the edges; a zero pixel at each end
      auto row = [&](long y) { return rows.data() + (y < 0 || y >= height ? 6 : y % 6) * line; };
      long filled = std::max(0L, top - 2);

      auto fill = [&] {
        const long y = doubled ? filled / 2 : filled;
        const uint16_t *pixel = x.data + n * x.image + y * x.row + first;
        const float *noises = noise.data + y * noise.row, *biases = bias + first;
        const uint16_t *scales = scale + n * scale_image + first;
        auto value = [&](long i, long c) {
          return activate(load_bfloat16(pixel + i * x.pixel + c), noises[i] + load(biases + c), load_bfloat16(scales + c));
        };
        float *above = row(filled) + block;
        if (!doubled) {
          for (long i = 0; i < width; i++)
            for (long c = 0; c < block; c += LANES)
              store(above + i * block + c, value(i, c));
          filled += 1;
          return;
        }
        float *below = row(filled + 1) + block;
        for (long i = 0; i < width / 2; i++) {
          for (long c = 0; c < block; c += LANES) {
            const Floats low = value(i, c), vertical = value(i, c + channels);
            const Floats horizontal = value(i, c + 2 * channels), diagonal = value(i, c + 3 * channels);
            const Floats even = low + vertical, odd = low - vertical;
            const Floats even_step = horizontal + diagonal, odd_step = horizontal - diagonal;
            store(above + 2 * i * block + c, even + even_step);
            store(above + (2 * i + 1) * block + c, even - even_step);
            store(below + 2 * i * block + c, odd + odd_step);
            store(below + (2 * i + 1) * block + c, odd - odd_step);
          }
        }
        filled += 2;
      };

      for (long y = top; y < bottom; y += 2) { // two rows of the result at once read four rows instead of six
        while (filled <= y + 2 && filled < height)
          fill();
        for (long c = 0; c < block; c += LANES) {
          const float *from[4] = {row(y - 1) + c, row(y) + c, row(y + 1) + c, row(y + 2) + c};
          uint16_t *upper = result + ((n * height + y) * width) * channels + first + c, *lower = upper + width * channels;
          uint16_t nowhere[LANES];
          const long lower_step = y + 1 < bottom ? channels : 0;
          if (!lower_step)
            lower = nowhere;
          Floats taps[9], values[4];
          for (long tap = 0; tap < 9; tap++)
            taps[tap] = load(kernel + tap * channels + first + c);
          auto read = [&](long column) {
            for (long i = 0; i < 4; i++)
              values[i] = load(from[i] + column * block);
          };
          auto part_of = [&](long i, long tap) { return values[i] * taps[tap] + values[i + 1] * taps[3 + tap] + values[i + 2] * taps[6 + tap]; };
          read(0);
          Floats sum[2] = {part_of(0, 0), part_of(1, 0)}; // of each row's pixel, its left and middle column
          read(1);
          sum[0] += part_of(0, 1), sum[1] += part_of(1, 1);
          Floats next[2] = {part_of(0, 0), part_of(1, 0)};
          for (long i = 0, end = width; i < end; i++) {
            read(i + 2);
            store_bfloat16(upper + i * channels, sum[0] + part_of(0, 2));
            store_bfloat16(lower + i * lower_step, sum[1] + part_of(1, 2));
            sum[0] = next[0] + part_of(0, 1), sum[1] = next[1] + part_of(1, 1);
            next[0] = part_of(0, 0), next[1] = part_of(1, 0);
          }
        }
      }
    }
  }
}
}
