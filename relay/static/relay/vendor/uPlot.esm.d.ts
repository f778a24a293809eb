/** What the charts use of uPlot; its own types are at https://github.com/leeoniya/uPlot. */
declare const uPlot: any;
export default uPlot;
