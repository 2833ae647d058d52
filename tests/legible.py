"""Whether a figure can be read: for the tests of figures."""

import matplotlib.axes
import matplotlib.text


def check_legible(figure):
    """Text of 7 pt or more, inside the canvas, and tick labels that keep apart."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text().strip() and text.get_visible():
            assert text.get_fontsize() >= 7, text
    everything = figure.bbox.padded(3)
    drawn = figure.get_tightbbox(renderer).transformed(figure.dpi_scale_trans)
    assert everything.x0 <= drawn.x0 and drawn.x1 <= everything.x1, (drawn, everything)
    assert everything.y0 <= drawn.y0 and drawn.y1 <= everything.y1, (drawn, everything)
    for ax in figure.findobj(matplotlib.axes.Axes):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [
                label.get_window_extent(renderer)
                for tick in axis.get_major_ticks()
                for label in (tick.label1, tick.label2)
                if label.get_visible() and label.get_text() and low <= tick.get_loc() <= high
            ]
            for i, one in enumerate(labels):
                assert not any(one.overlaps(other) for other in labels[i + 1 :]), axis.get_label().get_text()
